"""Stages whose results exist already, settled by the driver at once: no worker is started to find that out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cspipe.explain import Explanation, Verdict
from cspipe.runtime.wording import readable_bytes
from flows.command import run_command
from flows.dvc_stage import RESTORED, UP_TO_DATE, How, Outcome
from flows.dvc_steps import ADOPT, BEGINS, PUSH_KEPT
from flows.failures import reason
from flows.graph import HOURS, Node
from flows.workspace import Workspace

FILE = Path(".cspipe/known-results.json")
"""In the workspace: what the step `adopt` reads."""


def settle(
    workspace: Workspace, plan: Sequence[Explanation], nodes: Sequence[Node], tell: Callable[[str], None]
) -> dict[str, Outcome]:
    """Take over what need not run into the workspace. Returns how each stage was settled.

    What only this machine has is pushed, so that the workers of other stages find it. If anything fails, that is told
    and the stages are left to their workers, which can do the same. Without a bucket nothing is settled.
    """
    known = {each.stage: each for each in plan if each.verdict is not Verdict.RUN}
    if not known or workspace.bucket is None:
        return {}
    kept = {node.name: node.files for node in nodes}
    results = {name: {"entry": each.entry, "kept": kept[name]} for name, each in known.items()}
    (workspace.root / FILE).write_text(json.dumps(results))
    # All are pushed: of one that needs a pull, too, a part may be here alone. What is there is only looked for.
    kept_by_git = [[PUSH_KEPT, name] for name in known if kept[name]]
    steps = [[ADOPT, str(FILE)], ["pull", *known], ["push", "--run-cache", *known], *kept_by_git]
    if size := sum(each.pull_bytes for each in known.values()):
        tell(f"fetching {readable_bytes(size)} of known results")
    command = ["python", "-m", "flows.dvc_steps", json.dumps(steps)]
    ended = run_command(command, workspace.root, tell=lambda line: None, hours=HOURS)
    if ended.status:
        lines = [line for line in ended.lines if not line.startswith(BEGINS)]
        tell(f"known results could not be taken over here ({reason(lines)}); workers do it")
        return {}
    hows: dict[Verdict, How] = {Verdict.SKIP: UP_TO_DATE, Verdict.RESTORE: RESTORED, Verdict.PULL: RESTORED}
    return {name: Outcome(name, hows[each.verdict], 0.0) for name, each in known.items()}
