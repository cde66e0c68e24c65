"""What is tried again, and what is not."""

from typing import Any

import pytest
from prefect.states import Failed

from cspipe.runtime.ends import End, StageEnd
from cspipe.runtime.storage_errors import Unreachable
from flows.command import Ended
from flows.failures import StageFailed, Transient, failure, worth_another_attempt

FAILED = Ended(255, ("cspipe train: in words", "ERROR: failed to reproduce 'train'"))


def again(condition: Any, error: Exception) -> bool:
    return bool(condition(None, None, Failed(data=error)))


@pytest.mark.parametrize("end", set(End) - {End.DONE})
def test_the_end_of_a_stage_decides_what_becomes_of_it(end: End) -> None:
    error = failure("train", FAILED, StageEnd("train", end, "at 320 images"), 1, 320)
    passing = end in (End.PREEMPTED, End.TAKEN_OVER, End.S3_AWAY, End.KILLED)
    assert type(error) is (Transient if passing else StageFailed)
    assert error.end is (end if passing else End.FAILED)
    assert "320 images" in str(error)
    assert again(worth_another_attempt(), error) == passing


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("cspipe train: no such key", "ERROR: failed to reproduce"), "no such key"),
        (("something odd",), "something odd"),
    ],
)
def test_before_a_stage_begins_a_failure_says_the_line_that_tells_why(lines: tuple[str, ...], says: str) -> None:
    error = failure("train", Ended(255, lines), None, 1, 0)
    assert isinstance(error, StageFailed)
    assert says in str(error)


def test_a_killed_stage_is_tried_once_more_and_says_what_is_likely() -> None:
    error = failure("train", Ended(-9, ()), None, 1, 640)
    assert error.end is End.KILLED
    assert "memory" in str(error)
    condition = worth_another_attempt()
    assert again(condition, Transient("preempted", End.PREEMPTED, 1000))
    assert again(condition, error)  # although it got less far
    assert not again(condition, Transient("killed", End.KILLED, 1280))  # although it got further


def test_a_timeout_is_not_tried_again() -> None:
    error = failure("train", Ended(-15, (), timed_out=True), StageEnd("train", End.PREEMPTED), 2, 0)
    assert isinstance(error, StageFailed)
    assert "2 hours" in str(error)


def test_a_transient_cause_is_tried_again_while_there_is_progress() -> None:
    condition = worth_another_attempt()
    for reached in (0, 100, 200):
        assert again(condition, Transient("preempted", End.PREEMPTED, reached))
    assert not again(condition, Transient("preempted", End.PREEMPTED, 200))


def test_an_outage_of_s3_is_no_lack_of_progress() -> None:
    """Each attempt waits for S3 itself: the first outage is not held against an attempt that another one ends."""
    condition = worth_another_attempt()
    for _ in range(5):
        assert again(condition, Unreachable("S3 does not answer"))
        assert again(condition, Transient("S3 does not answer", End.S3_AWAY))
    assert again(condition, Transient("preempted", End.PREEMPTED, 100))
    assert again(condition, Transient("S3 does not answer", End.S3_AWAY))
    assert not again(condition, Transient("preempted", End.PREEMPTED, 100))


def test_a_bug_is_not_tried_again() -> None:
    assert not again(worth_another_attempt(), ValueError("x"))
