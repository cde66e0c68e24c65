"""Stages whose results exist already, settled by the driver at once: no worker is started to find that out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cspipe.cli.experiments import dvc_output
from cspipe.runtime.errors import UserError
from flows.command import run_command
from flows.dvc_stage import RESTORED, Outcome
from flows.dvc_steps import ALTERED, BEGINS, push_steps, steps_command
from flows.failures import reason
from flows.graph import HOURS, Node
from flows.workspace import Workspace

RUN_NOTHING = {"SHELL": "false"}
"""DVC runs commands of stages by $SHELL: with this one they fail at once, and what was done before is restored."""


def settle(workspace: Workspace, nodes: Sequence[Node], tell: Callable[[str], None]) -> dict[str, Outcome]:
    """Let DVC restore into the workspace what need not run. Returns how each of these stages was settled.

    What only this machine has is pushed, so that the workers of other stages find it. If S3 fails, that is told and
    the stages are left to their workers, which can do the same.
    """
    try:
        if workspace.bucket is not None:
            workspace.bucket.check()
        known = _restore(workspace, nodes, tell)
        if workspace.bucket is not None and known:
            ended = run_command(steps_command(push_steps(*known)), workspace.root, tell=lambda line: None, hours=HOURS)
            if ended.status:
                raise UserError(reason([line for line in ended.lines if not line.startswith(BEGINS)]))
    except UserError as error:
        tell(f"known results could not be taken over here ({error}); workers do it")
        return {}
    return {node.name: Outcome(node.name, RESTORED, 0.0) for node in known}


def _restore(workspace: Workspace, nodes: Sequence[Node], tell: Callable[[str], None]) -> list[Node]:
    """The stages that DVC had or restored from its caches, here or in the bucket. Raises UserError."""
    pull = ["--pull"] if workspace.bucket is not None else []
    command = steps_command([["repro", "--keep-going", *pull]])

    def log_altered(line: str) -> None:
        """A line of DVC's, told if it names what was altered."""
        if ALTERED in line:
            tell(line)

    run_command(command, workspace.root, tell=log_altered, hours=HOURS, environment=RUN_NOTHING)
    left = json.loads(dvc_output(workspace.root, "status", "--json"))
    known: dict[str, Node] = {}
    for node in nodes:  # each after those that it reads from
        if node.name not in left and known.keys() >= set(node.upstream):
            known[node.name] = node
    return list(known.values())
