"""What `--watch` prints of this project's runs: stages, their progress, and at the end the scores or the reason.

Prefect's own function prints every event, including heartbeats, and gives no reason at the end. It offers no hook, so
`install` replaces its `watch_flow_run`; runs of other projects are still watched by the original.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, LogFilter, TaskRunFilter
from prefect.client.schemas.objects import Artifact, FlowRun, TaskRun
from prefect.client.schemas.sorting import ArtifactSort, LogSort
from prefect.exceptions import FlowRunWaitTimeout, FlowRunWatchError, ObjectNotFound
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cspipe.runtime.wording import printable
from flows.artifact_keys import key
from flows.command import is_own_work
from flows.password import refused

TAG = "cspipe"
"""Tag of this project's deployments (prefect.yaml), and so of their runs."""
EVERY, PROGRESS_EVERY = 3.0, 30.0
"""Seconds between two polls of the server, and between two lines about the progress of a stage."""
WARNING, ENDED = 30, "Finished in state "
"""Level from which log lines are shown; start of Prefect's lines about an end, left out as the end is shown anyway."""
PREFECTS = re.compile(r"^(?:(?:Flow|Task) run encountered an exception:? (?:\w+: )?)+")
"""Prefect's words before the reason in the message of a failed state, once per nested run."""
RUNNING, WAITING = "running", "waiting for a worker of pool {} (`cspipe status` shows them)"


def install() -> None:
    """Make Prefect's command line watch this project's runs with `watch`, and all others as before."""
    from prefect.cli import flow_runs_watching  # imported here, as it imports all of Prefect's commands

    prefects = flow_runs_watching.watch_flow_run

    async def watch_flow_run(flow_run_id: UUID, console: Console, timeout: int | None = None) -> FlowRun:
        """Watch a flow run and return it once it has ended. Raises FlowRunWaitTimeout after `timeout` seconds."""
        async with get_client() as client:
            if TAG in (await client.read_flow_run(flow_run_id)).tags:
                return await watch(client, flow_run_id, console, timeout)
        return await prefects(flow_run_id, console, timeout=timeout)

    flow_runs_watching.watch_flow_run = watch_flow_run


async def watch(client: PrefectClient, run: UUID, console: Console, timeout: int | None) -> FlowRun:
    """Show a run until it has ended. Ctrl-C ends only the watching, with exit status 130.

    Raises FlowRunWaitTimeout after `timeout` seconds, FlowRunWatchError if the run was deleted or the password refused.
    """
    try:
        with anyio.fail_after(timeout):
            return await Watch(client, run, console).until_it_ends()
    except TimeoutError:
        raise FlowRunWaitTimeout(f"{run} still runs after {timeout} s of watching") from None
    except ObjectNotFound:
        raise FlowRunWatchError(f"{run} was deleted on the server") from None
    except anyio.get_cancelled_exc_class():
        console.print("\nno longer watched; the run goes on")
        console.print(f"  watch again  uv run prefect flow-run watch {run}")
        console.print(f"  end it       uv run prefect flow-run cancel {run}")
        raise SystemExit(130) from None


@dataclass
class Watch:
    """Prints what has changed about a run at each poll of the server."""

    client: PrefectClient
    id: UUID
    console: Console
    _start: float = field(default_factory=time.monotonic)
    _printed: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By stage, its last phase and the time (of time.monotonic) of the last line about it."""
    _logs: set[UUID] = field(default_factory=set)
    """Ids of the log lines read so far."""

    async def until_it_ends(self) -> FlowRun:
        """Poll every 3 s, and once more after the end, as logs come late; an unreachable server is waited for."""
        away = ended = False
        while True:
            try:
                run = await self._look()
                if ended:
                    await print_end(self.client, run, self.console)
                    return run
                away, ended = False, run.state is not None and run.state.is_final()
            except (httpx.HTTPError, OSError) as error:
                if refused(error):
                    again = f"if it has a new one, `uv run prefect flow-run watch {self.id}` goes on"
                    raise FlowRunWatchError(f"the server refuses the password; {again}") from None
                if not away:
                    self._print(f"the server does not answer ({type(error).__name__}); waiting for it")
                away = True
            await anyio.sleep(EVERY)

    async def _look(self) -> FlowRun:
        """Print what is new, and return the run, which is read before its stages and logs."""
        run = await self.client.read_flow_run(self.id)
        if run.start_time is None:
            self._print_stage("", WAITING.format(run.work_pool_name))
            return run
        this = FlowRunFilter.model_validate({"id": {"any_": [self.id]}})
        parent = FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": [self.id]}})
        stages = TaskRunFilter.model_validate({"subflow_runs": {"exists_": False}})
        children = await self.client.read_flow_runs(flow_run_filter=parent)
        tasks = await self.client.read_task_runs(flow_run_filter=this, task_run_filter=stages)
        runs = [self.id, *(child.id for child in children)]
        bars = {bar.key: bar for bar in reversed(await artifacts(self.client, "progress", runs))}
        warnings = LogFilter.model_validate({"flow_run_id": {"any_": runs}, "level": {"ge_": WARNING}})
        for log in reversed(await self.client.read_logs(warnings, sort=LogSort.TIMESTAMP_DESC)):
            if log.id not in self._logs and not log.message.startswith(ENDED):
                self._print(log.message.splitlines()[0])
            self._logs.add(log.id)
        if not (tasks or (run.state and run.state.is_final())):  # a flow without stages, or one that has just begun
            self._print_stage("", RUNNING, next(reversed(bars.values()), None))
        for task in {task.name: task for task in sorted(tasks, key=lambda task: str(task.created))}.values():
            self._print_stage(task.name, phase(task, children), bars.get(key("progress", task.name)))
        return run

    def _print_stage(self, name: str, now: str, bar: Artifact | None = None) -> None:
        """Print a stage's change of phase, or its progress every 30 s while it runs."""
        before, since = self._printed.get(name, ("", 0.0))
        text = now if now != before else ""
        if now == before == RUNNING and bar is not None and time.monotonic() - since >= PROGRESS_EVERY:
            what, _, done = (bar.description or "").partition(": ")
            text = f"{float(str(bar.data)):.0f} %, {done}{'' if is_own_work(what, name) else f' ({what})'}"
        if text:
            self._printed[name] = now, time.monotonic()
            self._print(f"{name:<18} {text}" if name else text)

    def _print(self, text: str) -> None:
        """Print a line, preceded by the minutes and seconds since the watching began."""
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        line = printable(f"{minutes:3}:{seconds:02}  {text}")
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


async def artifacts(client: PrefectClient, kind: str, runs: Sequence[UUID]) -> list[Artifact]:
    """Return the artifacts of type `kind` that flow runs made, the newest first."""
    wanted = ArtifactFilter.model_validate({"type": {"any_": [kind]}, "flow_run_id": {"any_": list(runs)}})
    found: list[Artifact] = await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC)
    return found


def phase(task: TaskRun, children: Sequence[FlowRun]) -> str:
    """Return what a stage does or how it ended; `children`: the flow runs of stages that run on workers.

    Empty for a stage that waits for upstream stages.
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


def one_line(message: str | None) -> str:
    """Return the first line of a message, without Prefect's words before the reason (see PREFECTS)."""
    first = printable(next(iter((message or "").strip().splitlines()), "no message"))
    return PREFECTS.sub("", first) or first


async def print_end(client: PrefectClient, run: FlowRun, console: Console) -> None:
    """Print a run's tables, then how to get its experiment, or the reason of its end. Reads all before it prints."""
    assert run.state is not None
    tables = await artifacts(client, "table", [run.id])
    flow = await client.read_flow(run.flow_id)
    for artifact in tables:
        shown = table(artifact)
        if console.measure(shown).maximum <= console.width:  # a wider one is for the run's page
            console.print(artifact.description or "", markup=False, highlight=False, soft_wrap=True)
            console.print(shown)
    text = f"{run.name} {(run.state.name or run.state.type).lower()}: {one_line(run.state.message)}"
    if run.state.is_completed():
        text = run.state.message or "completed"
        if flow.name == "pipeline":
            text += f"\n  in the worker's clone   uv run dvc exp apply {run.name}"
            text += f"\n  elsewhere, if pushed    uv run dvc exp pull origin {run.name}, then the same"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def table(artifact: Artifact) -> Table:
    """Convert a table artifact to a table for the terminal."""
    rows: list[dict[str, object]] = json.loads(str(artifact.data))
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(dict.fromkeys(column for row in rows for column in row)):
        shown.add_column(column, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*(Text(printable(str(row.get(str(column.header), "")))) for column in shown.columns))
    return shown
