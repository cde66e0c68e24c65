"""A run's state in words, for flows/watch.py: a stage's phase, how far it is, and how the run ended."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.client.schemas.sorting import ArtifactSort
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cspipe.runtime.errors import UserError
from flows.artifacts import key
from flows.workspace import git, home

RUNNING, WAITING = "running", "waiting for a worker of pool {}"
PREFECTS = re.compile(r"^(?:(?:Flow|Task) run encountered an exception:? (?:\w+: )?)+")
PATIENCE = 20
"""Seconds for the clone's origin to say whether it has an experiment."""


async def artifacts(client: PrefectClient, kind: str, runs: Sequence[UUID]) -> list[Artifact]:
    """The artifacts of one type that flow runs made, the newest first."""
    wanted = ArtifactFilter.model_validate({"type": {"any_": [kind]}, "flow_run_id": {"any_": list(runs)}})
    found: list[Artifact] = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC)
    return found


def phase(task: TaskRun, children: Sequence[FlowRun]) -> str:
    """What a stage does or how it ended; `children` are the flow runs that do the work of stages elsewhere.

    Empty for a stage that waits for those upstream.
    """
    state = task.state
    if state is None:  # it has just been made
        return ""
    if state.is_completed():
        return (state.message or state.name or "").removeprefix(f"{task.name}: ")
    if state.is_final():
        return f"{(state.name or state.type).lower()}: {one_line(state.message)}".replace(f" {task.name}: ", " ", 1)
    attempts = [child for child in children if child.name.startswith(f"{task.name} of ")]
    newest = max(attempts, key=lambda child: str(child.created), default=None)
    if newest is not None and newest.start_time is None:
        return WAITING.format(newest.work_pool_name)
    if state.is_running():
        return RUNNING
    return "" if task.start_time is None else "to be tried again"


def bar_of(stage: str, bars: Sequence[Artifact]) -> Artifact | None:
    """The progress of a stage, if it is long enough to have any."""
    return next((bar for bar in bars if bar.key == key("progress", stage)), None)


def bar_text(bar: Artifact) -> str:
    """Percentage, images, time left."""
    return f"{float(str(bar.data)):.0f} %, {(bar.description or '').partition(': ')[2]}"


def one_line(message: str | None) -> str:
    """The first line of a message, without Prefect's words before the reason, once for each run on its way."""
    first = next(iter((message or "").strip().splitlines()), "no message")
    return PREFECTS.sub("", first) or first


async def tell_end(client: PrefectClient, run: FlowRun, console: Console) -> None:
    """Tables, then the experiment and how to get it, or the reason in one line. Reads everything before it prints."""
    assert run.state is not None
    tables = await artifacts(client, "table", [run.id])
    flow = await client.read_flow(run.flow_id)
    for artifact in tables:
        shown = table(artifact)
        if console.measure(shown).maximum <= console.width:  # a wider one is for the run's page
            console.print(artifact.description or "", markup=False, highlight=False, soft_wrap=True)
            console.print(shown)
    if run.state.is_completed():
        lines = [run.state.message or "completed", *(experiment(run.name) if flow.name == "pipeline" else [])]
    else:
        lines = [f"{run.name} {(run.state.name or run.state.type).lower()}: {one_line(run.state.message)}"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def table(artifact: Artifact) -> Table:
    """A table artifact as a table of a terminal."""
    rows: list[dict[str, object]] = json.loads(str(artifact.data))
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(dict.fromkeys(column for row in rows for column in row)):
        shown.add_column(column, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*(str(row.get(str(column.header), "")) for column in shown.columns))
    return shown


def experiment(name: str) -> list[str]:
    """The experiment of a run, and the commands that bring it: into this clone, and wherever its origin is reached."""
    try:
        clone = home()
        here = bool(git(clone, "for-each-ref", f"refs/exps/*/*/{name}"))
        there = on_origin(clone, name)
    except UserError:
        here, there = False, True  # watched from outside of a clone: nobody can tell
    lines = [f"experiment {name}"]
    if here:
        lines.append(f"  in this clone   dvc exp apply {name}")
    if there:
        lines.append(f"  elsewhere       dvc exp pull origin {name} && dvc exp apply {name}")
    if not here and not there:
        lines.append("  it is in the clone of the worker that ran it: not in this one, nor pushed to its origin")
    return lines


def on_origin(clone: Path, name: str) -> bool:
    """Whether the clone's origin has the experiment; one that is slow or asks for a password has not."""
    command = ["git", "-c", "core.askPass=true", "ls-remote", "--exit-code", "origin", f"refs/exps/*/{name}"]
    try:
        asked = subprocess.run(
            command, cwd=clone, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
