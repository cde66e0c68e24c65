"""The end of a pipeline run: check that DVC has nothing left to run, and save the result as a DVC experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cspipe.config.params_file import load_params
from cspipe.report.results import Metrics
from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.worktree import save_as_experiment
from flows.command import Ended, run_command
from flows.failures import StageFailed, reason
from flows.scores import comparable_facts
from flows.workspace import Workspace

UP_TO_DATE = "Data and pipelines are up to date."


def verify(workspace: Workspace) -> None:
    """Raise StageFailed unless DVC finds that the merged dvc.lock leaves nothing to do."""
    ended = _dvc(workspace, ["repro", "--allow-missing", "--dry"])
    if ended.status or UP_TO_DATE not in ended.lines:
        left = [line for line in ended.lines if line.startswith("Running stage")]
        raise StageFailed(
            f"the merged dvc.lock is not that of a finished run: {', '.join(left) or reason(ended.lines)}"
        )


def save_experiment(workspace: Workspace, name: str, tell: Callable[[str], None]) -> None:
    """Save the workspace as the DVC experiment `name`; with a bucket and an origin, push it, if that is permitted.

    Raises StageFailed if git refuses.
    """
    try:
        save_as_experiment(workspace.root, workspace.revision, name)
    except UserError as error:
        raise StageFailed(f"the experiment {name} is not saved: {error}") from None
    tell(
        f"saved as the experiment {name}: `uv run cspipe experiments` lists it, `uv run dvc exp apply {name}` brings "
        "it into a clone"
    )
    push_experiments(workspace, [name], tell)


def push_experiments(workspace: Workspace, names: Sequence[str], tell: Callable[[str], None]) -> None:
    """Push experiments with a bucket and an origin, if that is permitted; else only this clone has them."""
    if not names or workspace.bucket is None or not git(workspace.root, "remote"):
        return
    pushed = _dvc(workspace, ["exp", "push", "--force", "origin", *names], hours=24)
    if pushed.status:  # for instance no write access to origin; the results are in this clone
        tell(f"not pushed, so this clone alone has what it made ({reason(pushed.lines)})")
    else:
        tell(f"pushed: elsewhere, `uv run dvc exp pull origin {names[0] if len(names) == 1 else 'NAME'}` first")


def _dvc(workspace: Workspace, arguments: list[str], hours: float = 1.0) -> Ended:
    command = ["python", "-m", "dvc", "--wait-for-lock", *arguments]
    return run_command(command, workspace.root, tell=lambda line: None, hours=hours)


def scores_now(root: Path) -> dict[str, Metrics]:
    """Return the scores of a finished workspace, by variant, in the order of its params.yaml."""
    files = {name: root / "metrics" / f"{name}.json" for name in load_params(root / "params.yaml").variants}
    return {name: Metrics.model_validate_json(file.read_text()) for name, file in files.items() if file.exists()}


def scores_recorded(workspace: Workspace) -> dict[str, Metrics]:
    """Return the scores committed at the workspace's revision, by variant, if measured as those in the workspace."""
    found: dict[str, Metrics] = {}
    for name in git(workspace.root, "ls-tree", "--name-only", workspace.revision, "metrics/").splitlines():
        text, now = git(workspace.root, "show", f"{workspace.revision}:{name}"), workspace.root / name
        try:
            if now.exists() and comparable_facts(now.read_text()) == comparable_facts(text):
                found[Path(name).stem] = Metrics.model_validate_json(text)
        except (ValueError, LookupError, TypeError):  # written by other code: no record to compare with
            continue
    return found
