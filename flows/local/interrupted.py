"""What `cspipe down` tells Prefect's server: no new work, and which runs it has ended.

Plain requests: a server that is gone must not hold up the end, and Prefect's client takes seconds to import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import httpx
import psutil

from flows.local import processes

POOLS = ("cpu", "gpu")
STOPPED = "Stopped"
"""Name of the state, a crashed one, of a run that was at work; flows/supervise.py has it go on at the next `up`."""
PATIENCE = 5.0
"""Seconds for an answer."""


def pause(api: str) -> None:
    """Have the pools give out no more work, to workers elsewhere either. `cspipe up` resumes them."""
    with contextlib.suppress(httpx.HTTPError):
        for pool in POOLS:
            _ask("PATCH", f"{api}/work_pools/{pool}", {"is_paused": True})


def at_work(mark: str) -> dict[psutil.Process, str]:
    """The processes of a stack's flow runs, also of those whose worker has died, with the ids of their runs."""
    found = ((process, processes.variable(process, "PREFECT__FLOW_RUN_ID")) for process in processes.marked(mark))
    return {process: run for process, run in found if run}


def tell(api: str, runs: Iterable[str]) -> None:
    """Mark runs whose processes were ended before they could do it themselves; what has ended keeps its end.

    Else they would count as running until the supervisor finds them lost.
    """
    state = {"type": "CRASHED", "name": STOPPED, "message": "stopped by `cspipe down`"}
    with contextlib.suppress(httpx.HTTPError):
        for run in runs:
            _ask("POST", f"{api}/flow_runs/{run}/set_state", {"state": state})


def _ask(method: str, url: str, body: dict[str, Any]) -> None:
    httpx.request(method, url, json=body, timeout=PATIENCE, trust_env=False)
