"""What `--watch` shows of this project's runs: stages as they come, how far the running ones are, scores or the reason.

Prefect's own watching prints every event, heartbeats among them, and ends without a reason. It offers no hook, so
`install` puts the function here in the place of its `watch_flow_run`; runs of other projects are still watched by that.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter, TaskRunFilter
from prefect.client.schemas.objects import Artifact, FlowRun, Log, TaskRun
from prefect.exceptions import FlowRunWaitTimeout, FlowRunWatchError, ObjectNotFound
from rich.console import Console

from flows.watched import RUNNING, WAITING, artifacts, bar_of, bar_text, phase, tell_end

TAG = "cspipe"
"""Of this project's deployments (prefect.yaml), and so of their runs."""
EVERY = 3.0
"""Seconds between two looks, half a dozen requests each; Prefect sends logs every 2 s."""
TOLD_EVERY = 30.0
"""Seconds between two lines about how far a stage is."""
LATE = timedelta(seconds=10)
"""How much later than its time stamp a line of the log may arrive."""
SKEW = timedelta(hours=1)
"""How wrong a worker's clock may be."""
INFO, WARNING, ERROR = 20, 30, 40
ENDED, AGAIN = "Finished in state ", "Task run failed with "
"""How Prefect begins its lines about an end, told anyway, and about another attempt, whose state has no reason."""
PAGE = 200
"""Lines of the log in one answer of the server."""
NARROW, MINUTES = 18, 3
"""Columns of a stage's name, and of the minutes before it."""

Watching = Callable[..., Awaitable[FlowRun]]


def install() -> None:
    """Have Prefect's command line watch this project's runs with `watch`; without a function to replace, it stays."""
    try:
        from prefect.cli import flow_runs_watching
    except ImportError:
        return
    prefects: Watching | None = getattr(flow_runs_watching, "watch_flow_run", None)
    if prefects is not None:
        flow_runs_watching.watch_flow_run = ours_or(prefects)  # type: ignore[assignment]


def ours_or(prefects: Watching) -> Watching:
    """A function for Prefect's command line: `watch` for this project's runs, `prefects` for all others."""

    async def watch_flow_run(flow_run_id: UUID, console: Console, timeout: int | None = None) -> FlowRun:
        """The flow run once it has ended. Raises FlowRunWaitTimeout after `timeout` seconds."""
        async with get_client() as client:
            run = await client.read_flow_run(flow_run_id)
            if TAG in run.tags:
                return await watch(client, run.id, console, timeout)
        return await prefects(flow_run_id, console, timeout=timeout)

    return watch_flow_run


async def watch(client: PrefectClient, run: UUID, console: Console, timeout: int | None) -> FlowRun:
    """Show a run until it has ended; Ctrl-C ends the watching alone, with status 130.

    Raises FlowRunWaitTimeout after `timeout` seconds, FlowRunWatchError if the run was deleted.
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
        console.print(f"  watch again  prefect flow-run watch {run}")
        console.print(f"  end it       prefect flow-run cancel {run}")
        raise SystemExit(130) from None


@dataclass
class Watch:
    """Tells what changes about a run from one look at the server to the next."""

    client: PrefectClient
    id: UUID
    console: Console
    _start: float = field(default_factory=time.monotonic)
    _phases: dict[str, str] = field(default_factory=dict)
    """What was last told of each stage."""
    _since: dict[str, float] = field(default_factory=dict)
    """When something was last told of each stage."""
    _logs: dict[UUID, Log] = field(default_factory=dict)

    async def until_it_ends(self) -> FlowRun:
        """Look every 3 s, and once more after the end, as logs come late; the server may be away for a while."""
        away = ended = False
        with self.console.status("waiting") if self.console.is_terminal else nullcontext() as line:
            while True:
                try:
                    run, running = await self._look()
                    if ended:
                        await tell_end(self.client, run, self.console)
                        return run
                except (httpx.HTTPError, OSError) as error:
                    if not away:
                        self._say("", f"the server does not answer ({type(error).__name__}); waiting for it")
                    away = True
                else:
                    away, ended = False, run.state is not None and run.state.is_final()
                    if line is not None:
                        line.update(" | ".join(running) or run.state_name or "waiting")
                await anyio.sleep(EVERY)

    async def _look(self) -> tuple[FlowRun, list[str]]:
        """Tell what is new; the run, read before everything else, and how far its stages are."""
        run = await self.client.read_flow_run(self.id)
        this = FlowRunFilter.model_validate({"id": {"any_": [self.id]}})
        parent = FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": [self.id]}})
        stages = TaskRunFilter.model_validate({"subflow_runs": {"exists_": False}})
        children = await self.client.read_flow_runs(flow_run_filter=parent)
        tasks = await self.client.read_task_runs(flow_run_filter=this, task_run_filter=stages)
        bars = await artifacts(self.client, "progress", [self.id, *(child.id for child in children)])
        if run.start_time is None:
            self._tell_phase("", f"{WAITING.format(run.work_pool_name)} (`cspipe status` shows them)")
        else:
            own = [log.timestamp - LATE for log in self._logs.values() if log.flow_run_id == self.id]
            await self._tell_logs([self.id], INFO, max([run.start_time, *own]))
            if children:  # few lines, by the clocks of other machines
                await self._tell_logs([child.id for child in children], WARNING, run.start_time - SKEW)
        newest = {task.name: task for task in sorted(tasks, key=lambda task: str(task.created))}
        return run, [text for task in newest.values() if (text := self._tell_task(task, children, bars))]

    async def _tell_logs(self, runs: list[UUID], level: int, after: datetime) -> None:
        """New lines of the run itself; of its stages warnings, and why they are tried again.

        Without tracebacks and Prefect's line about the end: stages and the run say both in one line.
        """
        query = {"flow_run_id": {"any_": runs}, "level": {"ge_": level}, "timestamp": {"after_": after}}
        offset, logs = 0, list[Log]()
        while offset == len(logs):
            logs += await self.client.read_logs(LogFilter.model_validate(query), offset=offset, limit=PAGE)
            offset += PAGE
        for log in logs:
            traceback = log.level >= ERROR and "\n" in log.message
            wanted = log.name == "prefect.flow_runs" or log.level >= WARNING or log.message.startswith(AGAIN)
            if wanted and log.id not in self._logs and not traceback and not log.message.startswith(ENDED):
                self._say("", log.message)
            self._logs[log.id] = log

    def _tell_task(self, task: TaskRun, children: list[FlowRun], bars: list[Artifact]) -> str | None:
        """Tell a stage's change of state, and now and then how far it is, which is returned while it runs."""
        now = phase(task, children)
        self._tell_phase(task.name, now)
        if now != RUNNING:
            return None
        bar = bar_of(task.name, bars)
        if bar is None:
            return task.name
        if time.monotonic() - self._since[task.name] >= TOLD_EVERY:
            self._say(task.name, bar_text(bar))
        return f"{task.name} {bar_text(bar)}"

    def _tell_phase(self, name: str, text: str) -> None:
        if text and self._phases.get(name) != text:
            self._phases[name] = text
            self._say(name, text)

    def _say(self, name: str, text: str) -> None:
        """A line, after the minutes and seconds of watching and the stage's name."""
        self._since[name] = time.monotonic()
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        label = f"{name:<{NARROW}} " if name else ""
        told = f"{minutes:{MINUTES}}:{seconds:02}  {label}{text}".replace("\n", "\n" + " " * (MINUTES + 5))
        self.console.print(told, markup=False, highlight=False, soft_wrap=True)
