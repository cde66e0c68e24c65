"""The driver's side of a stage that runs on another pool's worker: queue it, wait for it, take over its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from cspipe.errors import UserError
from cspipe.storage_errors import Unreachable
from flows.dvc_stage import How, Outcome
from flows.failures import StageFailed, Transient
from flows.graph import Node
from flows.handover import LOCK, Place, take_over
from flows.workspace import Workspace

POLL = 0.5
"""Seconds between two looks at a flow run."""
QUEUED_TOO_LONG = 60.0
"""Seconds after which waiting for a worker is told."""


def deployment_of(pool: str) -> str:
    """Full name of the deployment that runs stages on a pool."""
    return f"run-stage/run-stage-{pool}"


def run_elsewhere(node: Node, workspace: Workspace, run: str, attempt: int, tell: Callable[[str], None]) -> Outcome:
    """Have a worker of its pool run a stage. Raises StageFailed, or Transient if the worker was lost or preempted."""
    assert workspace.bucket is not None
    place = Place(workspace.bucket, run, node.name)
    lock = workspace.root / LOCK
    place.bucket.delete(place.result)
    place.bucket.delete(place.progress)
    parameters = {
        "run": run,
        "driver": flow_run.id,
        "node": asdict(node),
        "revision": workspace.revision,
        "params": (workspace.root / "params.yaml").read_text(),
        "lock": lock.read_text() if lock.exists() else "",
    }
    name = f"{node.name} of {run}" + (f", attempt {attempt}" if attempt > 1 else "")
    try:
        sent: FlowRun = run_deployment(deployment_of(node.pool), parameters=parameters, flow_run_name=name, timeout=0)  # type: ignore[assignment]
    except ObjectNotFound:
        raise UserError(
            f"no deployment {deployment_of(node.pool)} on this server; `uv run prefect deploy --all` registers it"
        ) from None
    ended = wait(sent.id, node.name, node.pool, tell)
    return conclude(ended, place, workspace, node)


def wait(queued: UUID, name: str, pool: str, tell: Callable[[str], None]) -> FlowRun:
    """The flow run of `name` once it has ended; a server that is away for a while does not end the wait."""
    start, told, away = time.monotonic(), False, False
    with get_client(sync_client=True) as client:
        while True:
            try:
                now = client.read_flow_run(queued)
            except (httpx.HTTPError, OSError) as error:
                if not away:
                    tell(f"{name}: the server does not answer ({type(error).__name__}); waiting for it")
                away = True
                time.sleep(POLL)
                continue
            away = False
            if now.state is not None and now.state.is_final():
                return now
            waiting = now.state is not None and now.state.type in (StateType.SCHEDULED, StateType.PENDING)
            if waiting and not told and time.monotonic() - start > QUEUED_TOO_LONG:
                tell(f"{name}: waiting for a free worker of pool {pool} (`cspipe status` shows them)")
                told = True
            time.sleep(POLL)


def conclude(ended: FlowRun, place: Place, workspace: Workspace, node: Node) -> Outcome:
    """Take over the result of a flow run that ended, or raise for how it ended."""
    state = ended.state
    assert state is not None
    message = state.message or "no message"
    if state.is_completed():
        how, seconds = take_over(place, workspace.root)
        return Outcome(node.name, _known(how), seconds)
    found = place.bucket.get_json(place.progress)
    reached = int(found[0]["done"]) if found else 0
    if state.is_crashed():
        raise Transient(f"{node.name}: worker lost ({message})", reached)
    if state.is_cancelled():
        raise StageFailed(f"{node.name}: cancelled by a person")
    cause = message.split("exception: ", 1)[-1]
    kind, _, text = cause.partition(": ")
    if kind.endswith((Transient.__name__, Unreachable.__name__)):
        raise Transient(text, reached)
    raise StageFailed(text if text else cause)


def _known(how: str) -> How:
    return how  # type: ignore[return-value]  # written by a worker with the same flows, which is checked
