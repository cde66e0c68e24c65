"""Stop a local stack: stages store their state, the server records which runs were stopped, no process is left."""

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
"""Names of the parts that are not workers."""
GRACE = 28.0
"""Seconds in which the processes of runs must end: stages store their state in the 25 s of flows/command.py."""
STOPPED = "Stopped"
"""Name of the crashed state of a run that was stopped; flows/supervise.py schedules it again after the next `up`."""
SECONDS_FOR_AN_ANSWER = 5.0
"""Timeout of a request to the server."""


def stop(stack: Stack) -> None:
    """End the supervisor, then all workers together, then server and store, and remove the stack's record.

    The pools are paused meanwhile, so that no work is taken. Running stages get time to store their state.
    """
    parts = {part.name: part.process for part in stack.parts if part.name != KEEPER}
    names = [name for name in reversed(parts) if name not in (SUPERVISOR, SERVER, S3)]
    for name in (name for name in (SUPERVISOR, *names, SERVER, S3) if name in parts):
        processes.say(f"stopping {name}" if parts[name] else f"{name} has ended")
    processes.stop([parts.get(SUPERVISOR)], grace=5)
    api = stack.api.replace("//", f"//{stack.keys['auth']}@")  # httpx takes the password from the address
    pause_pools(api)
    processes.kill([process for name in names if (process := parts[name])])  # SIGTERM would end the runs' engines
    runs = at_work(stack.mark)
    end_runs(runs)
    report_stopped(api, set(runs.values()))
    processes.stop([parts.get(SERVER)], grace=6)
    processes.stop([parts.get(S3)], grace=4)
    processes.stop(processes.find_marked(stack.mark), grace=5)
    s3_server.remove_sockets(stack.folder / "s3")
    (stack.folder / "stack.json").unlink(missing_ok=True)


def pause_pools(api: str) -> None:
    """Pause the pools: they give out no more work, also not to workers elsewhere. `cspipe up` resumes them."""
    with contextlib.suppress(httpx.HTTPError):
        for pool in SLOTS:
            _ask("PATCH", f"{api}/work_pools/{pool}", {"is_paused": True})


def at_work(mark: str) -> dict[psutil.Process, str]:
    """Return the processes of a stack's flow runs, also of those whose worker has died, with the ids of their runs."""
    found = ((process, processes.variable(process, "PREFECT__FLOW_RUN_ID")) for process in processes.find_marked(mark))
    return {process: run for process, run in found if run}


def end_runs(at_work: Iterable[psutil.Process]) -> None:
    """End flow runs: SIGTERM to the processes below their engines; then SIGKILL to engines and, after GRACE, the rest.

    An engine is kept while its stages write to it, and suspended when nothing runs below it, as it would retry a stage.
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
    """Mark runs as stopped, as their processes were ended before they could report it; ended runs keep their state.

    Otherwise they would count as running until the supervisor finds them lost. Does nothing if the server is gone.
    """
    state = {"type": "CRASHED", "name": STOPPED, "message": "stopped by `cspipe down`"}
    with contextlib.suppress(httpx.HTTPError):
        for run in runs:
            _ask("POST", f"{api}/flow_runs/{run}/set_state", {"state": state})


def _ask(method: str, url: str, body: dict[str, Any]) -> None:
    """Send a plain request to the server: Prefect's client would retry and delay the stop."""
    httpx.request(method, url, json=body, timeout=SECONDS_FOR_AN_ANSWER, trust_env=False)


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "prefect.engine" in process.cmdline()
    return False
