"""The end of a local stack: stages store their state, the server learns which runs were stopped, nothing is left."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from typing import Any

import httpx
import psutil

from flows.local import processes, s3_server
from flows.local.record import Stack
from flows.setup import SLOTS

KEEPER, SUPERVISOR, SERVER, S3 = "keeper", "supervisor", "server", "s3"
"""The parts that are no workers."""
GRACE = 28.0
"""Seconds for what works at a run to end: stages store their state in the 25 s that flows/command.py gives them."""
STOPPED = "Stopped"
"""Name of the state, a crashed one, of a run that was at work; flows/supervise.py has it go on at the next `up`."""
SECONDS_FOR_AN_ANSWER = 5.0


def stop(stack: Stack) -> None:
    """End the supervisor, then all workers together, then server and store, and forget the stack.

    No work is taken meanwhile. Stages that are at work get time to store their state.
    """
    parts = {part.name: part.process for part in stack.parts if part.name != KEEPER}
    names = [name for name in reversed(parts) if name not in (SUPERVISOR, SERVER, S3)]
    for name in (name for name in (SUPERVISOR, *names, SERVER, S3) if name in parts):
        processes.say(f"stopping {name}" if parts[name] else f"{name} has ended")
    processes.stop([parts.get(SUPERVISOR)], grace=5)
    api = stack.api.replace("//", f"//{stack.keys['auth']}@")  # httpx takes a password so
    pause_pools(api)
    processes.kill([process for name in names if (process := parts[name])])  # SIGTERM would end the runs' engines
    runs = at_work(stack.mark)
    end_runs(runs)
    report_stopped(api, set(runs.values()))
    processes.stop([parts.get(SERVER)], grace=6)
    processes.stop([parts.get(S3)], grace=4)
    processes.stop(processes.marked(stack.mark), grace=5)
    s3_server.remove_sockets(stack.folder / "s3")
    (stack.folder / "stack.json").unlink(missing_ok=True)


def pause_pools(api: str) -> None:
    """Have the pools give out no more work, to workers elsewhere either. `cspipe up` resumes them."""
    with contextlib.suppress(httpx.HTTPError):
        for pool in SLOTS:
            _ask("PATCH", f"{api}/work_pools/{pool}", {"is_paused": True})


def at_work(mark: str) -> dict[psutil.Process, str]:
    """The processes of a stack's flow runs, also of those whose worker has died, with the ids of their runs."""
    found = ((process, processes.variable(process, "PREFECT__FLOW_RUN_ID")) for process in processes.marked(mark))
    return {process: run for process, run in found if run}


def end_runs(at_work: Iterable[psutil.Process]) -> None:
    """End flow runs: SIGTERM to what works below their engines; these are killed with what is left after GRACE.

    An engine is kept, as its stages write to it, but held as soon as nothing works below it: it would try again.
    """
    at_work = list(at_work)
    engines = [process for process in at_work if _is_engine(process)]
    stages = [process for process in at_work if process not in engines]
    processes.signal_each(stages, signal.SIGTERM)
    patience = time.monotonic() + GRACE
    while True:
        for engine in engines:
            with contextlib.suppress(psutil.NoSuchProcess):
                if not processes.running(engine.children(recursive=True)):
                    engine.suspend()
        stages = processes.running(stages)
        if not stages or time.monotonic() > patience:
            break
        time.sleep(0.2)
    processes.kill([*stages, *processes.running(engines)])  # an engine may just have begun another attempt


def report_stopped(api: str, runs: Iterable[str]) -> None:
    """Mark runs whose processes were ended before they could do it themselves; what has ended keeps its end.

    Else they would count as running until the supervisor finds them lost. A server that is gone does not matter.
    """
    state = {"type": "CRASHED", "name": STOPPED, "message": "stopped by `cspipe down`"}
    with contextlib.suppress(httpx.HTTPError):
        for run in runs:
            _ask("POST", f"{api}/flow_runs/{run}/set_state", {"state": state})


def _ask(method: str, url: str, body: dict[str, Any]) -> None:
    """A plain request: Prefect's client would try again and hold up the end."""
    httpx.request(method, url, json=body, timeout=SECONDS_FOR_AN_ANSWER, trust_env=False)


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "prefect.engine" in process.cmdline()
    return False
