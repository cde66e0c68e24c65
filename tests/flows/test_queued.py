"""A stage that waits for a worker is pending, whatever it costs others; why it cannot be queued is its own failure."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from cspipe.runtime.errors import UserError
from flows.queued import Queued, QueuedStage

pytestmark = pytest.mark.usefixtures("prefect")
SENT = FlowRun(id=uuid4(), flow_id=uuid4())


@task
def first(fails: bool) -> None:
    if fails:
        raise ValueError("the first stage failed")


@task(name="second")
def second(queued: Queued) -> str:
    if queued.error is not None:
        raise queued.error
    return str(queued.run)


@flow
def two_stages(queue: Callable[[], FlowRun], fails: bool) -> str:
    upstream = first.submit(fails)
    return second.submit(QueuedStage([upstream], queue), wait_for=[upstream]).result()


def test_its_task_is_pending_until_a_worker_has_begun() -> None:
    seen: list[str] = []

    def queue() -> FlowRun:
        with get_client(sync_client=True) as client:
            mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
            named = TaskRunFilter(name=TaskRunFilterName(any_=["second"]))
            seen.extend(
                run.state.type.value for run in client.read_task_runs(flow_run_filter=mine, task_run_filter=named)
            )
        return SENT

    assert two_stages(queue, False) == str(SENT.id)
    assert "RUNNING" not in seen


def test_why_it_cannot_be_queued_is_what_its_task_fails_with() -> None:
    def queue() -> FlowRun:
        raise UserError("no deployment run-stage")

    with pytest.raises(UserError, match="no deployment run-stage"):
        two_stages(queue, False)


def test_nothing_is_queued_after_a_failure_upstream() -> None:
    asked: list[int] = []

    def queue() -> FlowRun:
        asked.append(1)
        return SENT

    with pytest.raises(Exception):  # noqa: B017, PT011 (Prefect's own, for a stage that did not start)
        two_stages(queue, True)
    assert not asked
