"""The driver's side of a stage that runs on another pool's worker: queue it, wait for it, take over its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage_errors import Unreachable
from flows.command import Step
from flows.dvc_stage import How, Outcome
from flows.failures import Away, Killed, StageFailed, Transient
from flows.graph import Node
from flows.handover import Place, lock_text, take_over
from flows.workspace import Workspace

POLL, SLOW_POLL = 0.5, 2.0
"""Seconds between two looks at a flow run, and after the first minute: the server has a core of the training's."""
QUEUED_TOO_LONG = 60.0
"""Seconds after which waiting for a worker is told."""


def deployment_of(pool: str) -> str:
    """Full name of the deployment that runs stages on a pool."""
    return f"run-stage/run-stage-{pool}"


def send(node: Node, workspace: Workspace, run: str, attempt: int) -> FlowRun:
    """Queue a stage for a worker of its pool. Raises UserError if nothing is deployed there, Unreachable without S3."""
    assert workspace.bucket is not None
    place = Place(workspace.bucket, run, node.name)
    place.bucket.delete(place.result)
    place.bucket.delete(place.progress)
    parameters = {
        "run": run,
        "driver": flow_run.id,
        "node": asdict(node),
        "revision": workspace.revision,
        "params": (workspace.root / "params.yaml").read_text(),
        "lock": lock_text(workspace.root),
    }
    name = f"{node.name} of {run}"
    cancel_queued(name)
    if attempt > 1:
        name += f", attempt {attempt}"
    try:
        return run_deployment(deployment_of(node.pool), parameters=parameters, flow_run_name=name, timeout=0)  # type: ignore[return-value]
    except ObjectNotFound:
        raise UserError(
            f"no deployment {deployment_of(node.pool)} on this server; `uv run prefect deploy --all` registers it"
        ) from None


def cancel_queued(name: str) -> None:
    """Cancel what an attempt before has queued under this name and no worker has begun: its driver was stopped."""
    waiting = {"type": {"any_": [StateType.SCHEDULED, StateType.PENDING]}}
    wanted = FlowRunFilter.model_validate({"name": {"like_": name}, "state": waiting})
    with get_client(sync_client=True) as client:
        for left in client.read_flow_runs(flow_run_filter=wanted):
            client.set_flow_run_state(left.id, Cancelled(message="queued by an attempt that has ended"))


def begun(run: FlowRun) -> bool:
    """Whether a worker has begun with a flow run; one that has ended counts too."""
    return run.state is not None and run.state.type not in (StateType.SCHEDULED, StateType.PENDING)


def ended(run: FlowRun) -> bool:
    """Whether a flow run has ended."""
    return run.state is not None and run.state.is_final()


def wait(
    queued: UUID,
    name: str,
    pool: str,
    tell: Callable[[str], None],
    until: Callable[[FlowRun], bool] = ended,
    meanwhile: Callable[[], None] = lambda: None,
    driver: UUID | None = None,
) -> FlowRun:
    """The flow run of `name` once it is as `until` says; a server that is away for a while does not end the wait.

    `meanwhile` is called again and again once a worker has begun. Before that, StageFailed is raised, and the flow run
    cancelled, when the flow run `driver` no longer runs.
    """
    start, told, away = time.monotonic(), False, False
    with get_client(sync_client=True) as client:
        while True:
            try:
                now = _look(client, queued, driver)
            except (httpx.HTTPError, OSError) as error:
                if not away:
                    tell(f"{name}: the server does not answer ({type(error).__name__}); waiting for it")
                away = True
                time.sleep(POLL)
                continue
            away = False
            if until(now):
                return now
            if begun(now):
                meanwhile()
            elif not told and time.monotonic() - start > QUEUED_TOO_LONG:
                tell(f"{name}: waiting for a free worker of pool {pool} (`cspipe status` shows them)")
                told = True
            time.sleep(POLL if time.monotonic() - start < QUEUED_TOO_LONG else SLOW_POLL)


def _look(client: SyncPrefectClient, queued: UUID, driver: UUID | None) -> FlowRun:
    """A flow run as it is. Raises StageFailed, and cancels it, if no worker has begun and its driver no longer runs."""
    now = client.read_flow_run(queued)
    if driver is not None and not begun(now):
        state = client.read_flow_run(driver).state
        if state is None or not state.is_running():
            client.set_flow_run_state(queued, Cancelled(message="its driver no longer runs"))
            raise StageFailed(f"{now.name}: not begun, and its driver no longer runs")
    return now


def conclude(run: FlowRun, place: Place, workspace: Workspace, node: Node) -> Outcome:
    """Take over the result of a flow run that ended.

    Raises StageFailed; Transient if its worker was preempted or lost, Killed or Away as the worker found.
    """
    state = run.state
    assert state is not None
    message = state.message or "no message"
    if state.is_completed():
        how, seconds = take_over(place, workspace.root, node)
        return Outcome(node.name, _known(how), seconds)
    found = place.bucket.get_json(place.progress)
    reached = Step(**found[0]).reached(node.name) if found else 0
    if state.is_crashed():
        raise Transient(f"{node.name}: worker lost ({message})", reached)
    if state.is_cancelled():
        raise StageFailed(f"{node.name}: cancelled by a person")
    cause = message.split("exception: ", 1)[-1]
    kind, _, text = cause.partition(": ")
    for passing in (Away, Killed, Transient):
        if kind.endswith(passing.__name__):
            raise passing(text, reached)
    if kind.endswith(Unreachable.__name__):
        raise Away(text, reached)
    raise StageFailed(text if text else cause)


def _known(how: str) -> How:
    return how  # type: ignore[return-value]  # written by a worker with the same flows, which is checked
