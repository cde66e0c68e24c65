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
"""Seconds between two polls of a flow run, in the first minute and later: polls take CPU time from the training."""
QUEUED_TOO_LONG = 60.0
"""Seconds after which waiting for a worker is logged."""
WAITING = (StateType.SCHEDULED, StateType.PENDING)
"""State types of a flow run that no worker has begun."""


def queue_after(
    threads: Executor, upstream: Sequence[PrefectFuture[Any]], queue: Callable[[], UUID]
) -> PrefectFuture[UUID | Exception]:
    """Queue a stage's flow run when the upstream stages are done; return a future, done when a worker has begun it.

    The stage's task depends on this future and is pending until then. An error becomes the future's result, which the
    task raises. In Prefect's graph the future stands for the last upstream stage.
    """

    def work() -> State[UUID | Exception]:
        """Run `queue` if all upstream stages completed; else Prefect skips this stage, and the error is not read."""
        for future in upstream:
            future.wait()
        try:
            if not all(future.state.is_completed() for future in upstream):
                raise StageFailed("a stage upstream failed")
            return Completed(data=queue())
        except Exception as error:
            return Completed(data=error)

    return PrefectConcurrentFuture(upstream[-1].task_run_id, threads.submit(copy_context().run, work))  # type: ignore[arg-type]


def begin_on_worker(node: Node, workspace: Workspace, place: Place, tell: Callable[[str], None]) -> UUID:
    """Queue a stage for a worker of its pool, and return the id of its flow run once a worker has begun it.

    Raises UserError if the pool has no deployment, Unreachable without S3, StageFailed if this run has ended.
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
    return wait_for_worker(sent.id, name, node.pool, UUID(flow_run.id), tell)


def cancel_queued(name: str) -> None:
    """Cancel flow runs of this name that no worker has begun: an earlier attempt of the driver queued them."""
    wanted = FlowRunFilter.model_validate({"name": {"like_": name}, "state": {"type": {"any_": list(WAITING)}}})
    with get_client(sync_client=True) as client:
        for left in client.read_flow_runs(flow_run_filter=wanted):
            client.set_flow_run_state(left.id, Cancelled(message="queued by an attempt that has ended"))


def wait_for_worker(queued: UUID, name: str, pool: str, driver: UUID, tell: Callable[[str], None]) -> UUID:
    """Wait until a worker has begun the flow run. If `driver` no longer runs, cancel it and raise StageFailed."""
    with get_client(sync_client=True) as client:
        for now in poll(client, queued, name, pool, tell):
            if has_begun(now):
                break
            if has_ended(client, driver):
                client.set_flow_run_state(queued, Cancelled(message="its driver no longer runs"))
                raise StageFailed(f"{name}: not begun, and its driver no longer runs")
    return queued


def finish_on_worker(
    queued: UUID, node: Node, workspace: Workspace, place: Place, tell: Callable[[str], None]
) -> Outcome:
    """Wait for a stage that a worker has begun, showing its progress, and take its result over into the workspace.

    Raises StageFailed or Transient, according to the end that the worker reported; Transient if the worker is lost.
    """
    shown = ProgressElsewhere(node.name, place.bucket, place.progress)
    ended = wait(queued, node.name, node.pool, tell, shown.look)
    state = ended.state
    if state is not None and state.is_completed():
        how, seconds = take_over(place, workspace.root, node)
        shown.end()
        return Outcome(node.name, how, seconds)
    raise error_of(state, place)


def error_of(state: State[Any] | None, place: Place) -> Exception:
    """Return the exception for a stage whose flow run did not complete; a failed state is named after an End."""
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
    """Wait until a flow run has ended, and return it; `meanwhile` is called after each poll before that."""
    with get_client(sync_client=True) as client:
        for now in poll(client, queued, name, pool, tell):
            if now.state is not None and now.state.is_final():
                break
            meanwhile()
    return now


def poll(
    client: SyncPrefectClient, queued: UUID, name: str, pool: str, tell: Callable[[str], None]
) -> Iterator[FlowRun]:
    """Poll a flow run and yield it, without end. An unreachable server is waited for; a long queue is logged once."""
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
            if not warned and not has_begun(now) and waited > QUEUED_TOO_LONG:
                tell(f"{name}: waiting for a free worker of pool {pool} (`cspipe status` shows them)")
                warned = True
            yield now
        time.sleep(POLL if waited < QUEUED_TOO_LONG else SLOW_POLL)


def has_begun(run: FlowRun) -> bool:
    """Whether a worker has begun a flow run; also true for a flow run that has ended."""
    return run.state is not None and run.state.type not in WAITING


def has_ended(client: SyncPrefectClient, driver: UUID) -> bool:
    """Whether the flow run `driver` no longer runs or was deleted, so that its stages are no longer needed.

    False while the server does not answer.
    """
    try:
        state = client.read_flow_run(driver).state
    except ObjectNotFound:
        return True
    except (httpx.HTTPError, OSError):
        return False
    return state is None or not state.is_running()
