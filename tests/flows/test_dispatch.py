"""Stages that are queued for workers, and whose drivers end before one has begun."""

from __future__ import annotations

from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelling, Completed, Running, Scheduled, State

from flows.dispatch import begun, cancel_queued, wait
from flows.failures import StageFailed

pytestmark = pytest.mark.usefixtures("prefect")


@flow
def stage() -> None:
    pass


def made(name: str, state: State) -> UUID:
    """A flow run in a state."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(stage, name=name, state=Scheduled())
        client.set_flow_run_state(run.id, state, force=True)
    return run.id


def state_of(run: UUID) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    assert state is not None
    return state.type.value


def test_a_stage_that_no_worker_has_begun_is_cancelled_with_its_driver() -> None:
    queued, driver = made("train of a", Scheduled()), made("a", Cancelling())
    with pytest.raises(StageFailed, match="train of a: not begun, and its driver no longer runs"):
        wait(queued, "train", "gpu", print, until=begun, driver=driver)
    assert state_of(queued) == "CANCELLED"


def test_a_stage_that_has_begun_is_left_to_its_worker() -> None:
    """It sees for itself that its driver is gone, and keeps its state."""
    running, driver = made("train of b", Running()), made("b", Cancelling())
    assert wait(running, "train", "gpu", print, until=begun, driver=driver).id == running
    assert state_of(running) == "RUNNING"


def test_what_an_attempt_before_has_left_in_the_queue_is_cancelled_and_nothing_else() -> None:
    names = ("sample@cs-1 of c", "sample@cs-1 of c, attempt 2", "sample@cs-10 of c", "sample@cs-1 of d")
    queued = [made(name, Scheduled()) for name in names]
    ended, running = made(names[0], Completed()), made(names[0], Running())
    cancel_queued("sample@cs-1 of c")
    assert [state_of(run) for run in queued] == ["CANCELLED", "CANCELLED", "SCHEDULED", "SCHEDULED"]
    assert (state_of(ended), state_of(running)) == ("COMPLETED", "RUNNING")
