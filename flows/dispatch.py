"""The driver's side of a stage that runs on another pool's worker: queue it, wait for it, take over its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import asdict
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectConcurrentFuture, PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from cspipe.runtime.ends import End
from cspipe.runtime.errors import UserError
from flows.artifacts import ProgressElsewhere
from flows.command import Step
from flows.dvc_stage import Outcome
from flows.failures import StageFailed, Transient, stage_error
from flows.graph import Node
from flows.handover import Place, lock_text, take_over
from flows.watch import one_line
from flows.workspace import Workspace

POLL, SLOW_POLL = 0.5, 2.0
"""Seconds between two looks at a flow run, and after the first minute: the server has a core of the training's."""
QUEUED_TOO_LONG = 60.0
"""Seconds after which waiting for a worker is logged."""
WAITING = (StateType.SCHEDULED, StateType.PENDING)


def queue_after(
    threads: Executor, upstream: Sequence[PrefectFuture[Any]], queue: Callable[[], UUID]
) -> PrefectFuture[UUID | Exception]:
    """A future of a stage's flow run: queued when the stages upstream are done, done itself when a worker has begun.

    So the stage's task, which depends on it, is pending until then. An error is a result too, for the task to raise.
    In Prefect's graph this future is the last of those upstream.
    """

    def work() -> State[UUID | Exception]:
        """Run `queue` if all upstream completed; else Prefect skips the stage, and nobody reads the error."""
        for future in upstream:
            future.wait()
        try:
            if not all(future.state.is_completed() for future in upstream):
                raise StageFailed("a stage upstream failed")
            return Completed(data=queue())
        except Exception as error:
            return Completed(data=error)

    return PrefectConcurrentFuture(upstream[-1].task_run_id, threads.submit(copy_context().run, work))  # type: ignore[arg-type]


def begin(node: Node, workspace: Workspace, place: Place, tell: Callable[[str], None]) -> UUID:
    """Queue a stage for a worker of its pool; the flow run once a worker has begun.

    Raises UserError if nothing is deployed there, Unreachable without S3, StageFailed if this run is cancelled.
    """
    for key in (place.result, place.progress):
        place.bucket.delete(key)
    parameters = {
        "run": place.run,
        "driver": flow_run.id,
        "node": asdict(node),
        "revision": workspace.revision,
        "params": (workspace.root / "params.yaml").read_text(),
        "lock": lock_text(workspace.root),
    }
    name, deployment = f"{node.name} of {place.run}", f"run-stage/run-stage-{node.pool}"
    job = {"gpus": node.gpus} if node.gpus > 1 else None  # infra/kubernetes/gpu-job-template.json reads it
    cancel_queued(name)
    try:
        sent: FlowRun = run_deployment(  # type: ignore[assignment]
            deployment, parameters=parameters, flow_run_name=name, timeout=0, job_variables=job
        )
    except ObjectNotFound:
        raise UserError(
            f"no deployment {deployment} on this server; `uv run prefect deploy --all` registers it"
        ) from None
    return until_begun(sent.id, name, node.pool, UUID(flow_run.id), tell)


def cancel_queued(name: str) -> None:
    """Cancel what an attempt before has queued under this name and no worker has begun: its driver was stopped."""
    wanted = FlowRunFilter.model_validate({"name": {"like_": name}, "state": {"type": {"any_": list(WAITING)}}})
    with get_client(sync_client=True) as client:
        for left in client.read_flow_runs(flow_run_filter=wanted):
            client.set_flow_run_state(left.id, Cancelled(message="queued by an attempt that has ended"))


def until_begun(queued: UUID, name: str, pool: str, driver: UUID, tell: Callable[[str], None]) -> UUID:
    """The flow run once a worker has begun; cancelled, with StageFailed, when the flow run `driver` no longer runs."""
    with get_client(sync_client=True) as client:
        for now in looks(client, queued, name, pool, tell):
            if begun(now):
                break
            if has_ended(client, driver):
                client.set_flow_run_state(queued, Cancelled(message="its driver no longer runs"))
                raise StageFailed(f"{name}: not begun, and its driver no longer runs")
    return queued


def finish(queued: UUID, node: Node, workspace: Workspace, place: Place, tell: Callable[[str], None]) -> Outcome:
    """The result of a stage that a worker has begun, taken over here; its progress is shown meanwhile.

    Raises StageFailed, or Transient as its worker found, and if that was lost.
    """
    shown = ProgressElsewhere(node.name, place.bucket, place.progress)
    ended = wait(queued, node.name, node.pool, tell, shown.look)
    state = ended.state
    if state is not None and state.is_completed():
        how, seconds = take_over(place, workspace.root, node)
        shown.end()
        return Outcome(node.name, how, seconds)
    raise failed(state, place)


def failed(state: State[Any] | None, place: Place) -> Exception:
    """The exception for a stage whose flow run on a worker did not complete; a failed state has the name of its End."""
    if state is None or state.is_cancelled():
        return StageFailed(f"{place.stage}: cancelled by a person")
    found = place.bucket.get_json(place.progress)
    reached = Step(**found[0]).reached(place.stage) if found else 0
    message = one_line(state.message)
    if state.is_crashed():
        return Transient(f"{place.stage}: worker lost ({message})", reached=reached)
    return stage_error(message, End.__members__.get(state.name or "", End.FAILED), reached)


def wait(
    queued: UUID, name: str, pool: str, tell: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
) -> FlowRun:
    """A flow run once it has ended; `meanwhile` is called again and again until then."""
    with get_client(sync_client=True) as client:
        for now in looks(client, queued, name, pool, tell):
            if now.state is not None and now.state.is_final():
                break
            meanwhile()
    return now


def looks(
    client: SyncPrefectClient, queued: UUID, name: str, pool: str, tell: Callable[[str], None]
) -> Iterator[FlowRun]:
    """A flow run as it is, again and again; a server that is away is waited for. A long wait is logged once."""
    start, warned, away = time.monotonic(), False, False
    while True:
        waited = time.monotonic() - start
        try:
            now = client.read_flow_run(queued)
        except (httpx.HTTPError, OSError) as error:
            if not away:
                tell(f"{name}: the server does not answer ({type(error).__name__}); waiting for it")
            away = True
        else:
            away = False
            if not warned and not begun(now) and waited > QUEUED_TOO_LONG:
                tell(f"{name}: waiting for a free worker of pool {pool} (`cspipe status` shows them)")
                warned = True
            yield now
        time.sleep(POLL if waited < QUEUED_TOO_LONG else SLOW_POLL)


def begun(run: FlowRun) -> bool:
    """Whether a worker has begun with a flow run; one that has ended counts too."""
    return run.state is not None and run.state.type not in WAITING


def has_ended(client: SyncPrefectClient, driver: UUID) -> bool:
    """Whether a driver was cancelled, lost or deleted: nobody waits for its stages.

    A server that is away decides nothing.
    """
    try:
        state = client.read_flow_run(driver).state
    except ObjectNotFound:
        return True
    except (httpx.HTTPError, OSError):
        return False
    return state is None or not state.is_running()
