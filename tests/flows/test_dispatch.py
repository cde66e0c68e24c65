"""Stages that are queued for workers: pending until one begins, and what becomes of them when their driver ends."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running, Scheduled, State

from cspipe.runtime.ends import End
from cspipe.runtime.storage import Bucket
from flows.dispatch import begin_on_worker, cancel_queued, error_of, has_ended, queue_after, wait_for_worker
from flows.failures import StageFailed, Transient
from flows.graph import Node
from flows.handover import Place
from flows.setup import create_pools
from tests.flows.server import state_of

pytestmark = pytest.mark.usefixtures("prefect")
SENT = uuid4()


@flow
def stage() -> None:
    pass


@task
def first(fails: bool) -> None:
    if fails:
        raise ValueError("the first stage failed")


BEGUN: list[UUID | Exception] = []


@task(name="second")
def second(queued: UUID | Exception) -> UUID:
    BEGUN.append(queued)
    if isinstance(queued, Exception):
        raise queued
    return queued


@flow
def two_stages(queue: Callable[[], UUID], fails: bool) -> UUID:
    upstream = first.submit(fails)
    with ThreadPoolExecutor(1) as threads:
        return second.submit(queue_after(threads, [upstream], queue), wait_for=[upstream]).result()


def test_a_job_is_asked_for_the_gpus_of_its_stage(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a pool whose workers are given none by the server."""
    (tmp_path / "params.yaml").write_text("{}")
    bucket = SimpleNamespace(delete=lambda key: None)
    place = SimpleNamespace(bucket=bucket, run="a", result="", progress="")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", str(uuid4()))
    monkeypatch.setattr("flows.dispatch.wait_for_worker", lambda queued, *others: queued)
    create_pools(client)
    client.create_deployment(client.create_flow_from_name("run-stage"), "run-stage-gpu", work_pool_name="gpu")
    for gpus, asked in ((1, {}), (2, {"gpus": 2})):
        node, workspace = Node("train", "gpu", 1.0, (), (), (), gpus), SimpleNamespace(root=tmp_path, revision="")
        queued = begin_on_worker(node, workspace, place, print)  # type: ignore[arg-type]
        assert client.read_flow_run(queued).job_variables == asked


def test_its_task_is_pending_until_a_worker_has_begun() -> None:
    begun_before: list[int] = []

    def queue() -> UUID:
        time.sleep(1)
        begun_before.append(len(BEGUN))
        return SENT

    BEGUN.clear()
    assert two_stages(queue, False) == SENT
    assert (begun_before, BEGUN) == ([0], [SENT])


def test_nothing_is_queued_after_a_failure_upstream() -> None:
    asked: list[int] = []

    def queue() -> UUID:
        asked.append(1)
        return SENT

    with pytest.raises(Exception):  # noqa: B017, PT011 (Prefect's own, for a stage that did not start)
        two_stages(queue, True)
    assert not asked


def made(client: SyncPrefectClient, name: str, state: State) -> UUID:
    run = client.create_flow_run(stage, name=name, state=Scheduled())
    client.set_flow_run_state(run.id, state, force=True)
    return run.id


def test_a_stage_that_no_worker_has_begun_is_cancelled_with_its_driver(client: SyncPrefectClient) -> None:
    queued, driver = made(client, "train of a", Scheduled()), made(client, "a", Cancelling())
    with pytest.raises(StageFailed, match="train of a"):
        wait_for_worker(queued, "train of a", "gpu", driver, print)
    assert state_of(client, queued).is_cancelled()


def test_a_stage_that_has_begun_is_left_to_its_worker(client: SyncPrefectClient) -> None:
    """It sees for itself that its driver is gone, and keeps its state."""
    running, driver = made(client, "train of b", Running()), made(client, "b", Cancelling())
    assert wait_for_worker(running, "train of b", "gpu", driver, print) == running
    assert state_of(client, running).is_running()


def test_a_driver_that_a_person_deleted_waits_for_nothing(client: SyncPrefectClient) -> None:
    driver = made(client, "e", Running())
    assert not has_ended(client, driver)
    client.delete_flow_run(driver)
    assert has_ended(client, driver)


def test_what_an_attempt_before_has_left_in_the_queue_is_cancelled_and_nothing_else(client: SyncPrefectClient) -> None:
    names = ("sample@cs-1 of c", "sample@cs-10 of c", "sample@cs-1 of d")
    runs = [made(client, name, Scheduled()) for name in names]
    runs += [made(client, names[0], state) for state in (Completed(), Running())]
    cancel_queued("sample@cs-1 of c")
    states = [state_of(client, run).type.value for run in runs]
    assert states == ["CANCELLED", "SCHEDULED", "SCHEDULED", "COMPLETED", "RUNNING"]


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (Failed(name="PREEMPTED", message="train: preempted"), End.PREEMPTED),
        (Failed(name="FAILED", message="train: a bad value"), None),
        (Failed(message="Flow run encountered an exception: KeyError: 'a'"), None),
        (Crashed(message="worker lost"), End.PREEMPTED),
        (Cancelled(), None),
    ],
)
def test_how_a_worker_ended_is_how_the_stage_ends_here(state: State, end: End | None, bucket: Bucket) -> None:
    place = Place(bucket, "run", "train")
    place.bucket.put_json(place.progress, {"what": "train", "done": 320, "total": 640, "rate": 1, "left": 320})
    error = error_of(state, place)
    if end is None:
        assert isinstance(error, StageFailed)
    else:
        assert isinstance(error, Transient)
        assert (error.end, error.reached) == (end, 320)
