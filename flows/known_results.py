"""Restore stages whose results exist already, in the driver and before any task: no worker is started for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cspipe.cli.dvc_output import dvc_output
from cspipe.runtime.errors import UserError
from flows.command import run_command
from flows.dvc_stage import RESTORED, Outcome
from flows.dvc_steps import ALTERED, BEGINS, push_steps, steps_command
from flows.failures import reason
from flows.graph import HOURS, Node
from flows.workspace import Workspace

RUN_NOTHING = {"SHELL": "false"}
"""Environment in which DVC restores stages but runs none: their commands, run by $SHELL, fail at once."""


def restore_known(workspace: Workspace, nodes: Sequence[Node], tell: Callable[[str], None]) -> dict[str, Outcome]:
    """Let DVC restore the stages that need not run into the workspace, and return their outcomes by name.

    Results that only this machine has are pushed, so that the workers of other stages find them. If S3 fails, this is
    logged and {} returned: workers then restore these stages.
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
    """Return the stages that are up to date after DVC restored what its caches have, here or in the bucket.

    Raises UserError if `dvc status` fails.
    """
    pull = ["--pull"] if workspace.bucket is not None else []
    command = steps_command([["repro", "--keep-going", *pull]])

    def log_altered(line: str) -> None:
        """Log a line of DVC's output if it names an altered object."""
        if ALTERED in line:
            tell(line)

    run_command(command, workspace.root, tell=log_altered, hours=HOURS, environment=RUN_NOTHING)
    left = json.loads(dvc_output(workspace.root, "status", "--json"))
    known: dict[str, Node] = {}
    for node in nodes:  # each after its upstream stages
        if node.name not in left and known.keys() >= set(node.upstream):
            known[node.name] = node
    return list(known.values())
