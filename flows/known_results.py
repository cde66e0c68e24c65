"""Stages whose results exist already, settled by the driver at once: no worker is started to find that out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cspipe.explain import Explanation, Verdict
from flows.command import run_command
from flows.dvc_stage import RESTORED, UP_TO_DATE, How, Outcome
from flows.dvc_steps import ADOPT, BEGINS, PUSH_KEPT
from flows.failures import reason
from flows.graph import Node
from flows.workspace import Workspace

FOLDER = Path(".cspipe/known")
"""In the workspace: the list of known results, and the pictures of them that a person is shown."""


def settle(
    workspace: Workspace, plan: Sequence[Explanation], nodes: Sequence[Node], tell: Callable[[str], None]
) -> dict[str, Outcome]:
    """Take over what need not run: dvc.lock, what git keeps, and the report. Returns how each stage was settled.

    Models and samples stay where they are, in the cache or in S3; what only this machine has is pushed. If anything
    fails, that is told and the stages are left to their workers, which can do the same. Needs a bucket.
    """
    known = {each.stage: each for each in plan if each.verdict is not Verdict.RUN}
    if not known or workspace.bucket is None:
        return {}
    kept = {node.name: node.files for node in nodes}
    results = {
        name: {"entry": each.entry, "kept": kept[name], "pictures": pictures_of(name)} for name, each in known.items()
    }
    file = workspace.root / FOLDER / "results.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results))
    here = [name for name, each in known.items() if each.verdict is not Verdict.PULL]
    steps = [[ADOPT, str(FOLDER / file.name)]]
    if here:
        steps += [["push", "--run-cache", *here], *([PUSH_KEPT, name] for name in here if kept[name])]
    if "report" in known:
        steps += [["pull", "report"]]
    command = ["python", "-m", "flows.dvc_steps", json.dumps(steps)]
    ended = run_command(command, workspace.root, tell=lambda line: None)
    if ended.status:
        lines = [line for line in ended.lines if not line.startswith(BEGINS)]
        tell(f"known results could not be taken over here ({reason(lines)}); workers do it")
        return {}
    hows: dict[Verdict, How] = {Verdict.SKIP: UP_TO_DATE, Verdict.RESTORE: RESTORED, Verdict.PULL: RESTORED}
    return {name: Outcome(name, hows[each.verdict], 0.0) for name, each in known.items()}


def pictures_of(stage: str) -> list[str]:
    """Pictures among a stage's outputs that people are shown."""
    name, _, variant = stage.partition("@")
    return {"sample": [f"samples/{variant}/grid.png"], "train": ["models/main/progress.png"]}.get(name, [])
