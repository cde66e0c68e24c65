"""What is tried again, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Failed

from cspipe.runtime.storage_errors import Unreachable
from flows.command import Ended
from flows.dvc_stage import PATIENCE
from flows.failures import AWAY_SECONDS, Away, Killed, StageFailed, Transient, failure, worth_another_attempt


def ended(*lines: str, timed_out: bool = False) -> Ended:
    return Ended(1, 1.0, lines, timed_out)


def again(condition: Any, error: Exception) -> bool:
    return bool(condition(None, None, Failed(data=error)))


def test_a_preempted_stage_is_transient_and_says_how_far_it_was() -> None:
    error = failure("train", ended("ERROR: failed to reproduce 'train': failed to run: x, exited with 75"), 1, 320)
    assert isinstance(error, Transient)
    assert error.reached == 320


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("cspipe train: the loss stopped being finite at 640 images", "ERROR: failed to reproduce"), "640 images"),
        (("ERROR: no stage", "ERROR: failed to reproduce 'x'"), "no stage"),
        (("something odd",), "something odd"),
        ((), "without a word"),
    ],
)
def test_other_ends_fail_at_once_with_the_line_that_tells_why(lines: tuple[str, ...], says: str) -> None:
    error = failure("train", ended(*lines), 1, 0)
    assert isinstance(error, StageFailed)
    assert says in str(error)
    assert not again(worth_another_attempt(), error)


def test_a_stage_that_found_s3_away_is_told_apart() -> None:
    error = failure("train", ended("cspipe train: S3 at http://x is unreachable (refused, to list y); start it"), 1, 0)
    assert isinstance(error, Away)


@pytest.mark.parametrize(
    "killed",
    [
        ended("ERROR: failed to reproduce 'train': failed to run: python -m cspipe.stages.train, exited with -9"),
        ended("ERROR: failed to reproduce 'train': failed to run: python -m cspipe.stages.train, exited with 137"),
        Ended(-9, 1.0, ()),
    ],
)
def test_a_killed_stage_is_tried_once_more_and_then_says_what_is_likely(killed: Ended) -> None:
    error = failure("train", killed, 1, 640)
    assert isinstance(error, Killed)
    assert "signal 9" in str(error)
    assert "memory" in str(error)
    assert "640 images" in str(error)
    condition = worth_another_attempt()
    assert again(condition, Transient("preempted", 1000))
    assert again(condition, error)  # although it got less far
    assert not again(condition, Killed("killed", 1280))  # although it got further


def test_a_timeout_is_not_tried_again() -> None:
    error = failure("train", ended(timed_out=True), 2, 0)
    assert isinstance(error, StageFailed)
    assert "2 hours" in str(error)


def test_a_transient_cause_is_tried_again_while_there_is_progress() -> None:
    condition = worth_another_attempt()
    assert again(condition, Transient("preempted", 0))
    assert again(condition, Transient("preempted", 100))
    assert again(condition, Transient("preempted", 200))
    assert not again(condition, Transient("preempted", 200))


def test_never_twice_without_progress() -> None:
    condition = worth_another_attempt()
    assert again(condition, Transient("worker lost", 0))
    assert not again(condition, Transient("worker lost", 0))


def test_an_outage_of_s3_is_no_lack_of_progress() -> None:
    """Each attempt waits for S3 itself: the first outage is not held against an attempt that another one ends."""
    condition = worth_another_attempt()
    for _ in range(5):
        assert again(condition, Unreachable("S3 does not answer"))
        assert again(condition, Away("S3 does not answer"))
    assert again(condition, Transient("preempted", 100))
    assert again(condition, Away("S3 does not answer"))
    assert not again(condition, Transient("preempted", 100))


def test_a_transfer_waits_half_an_hour_for_s3() -> None:
    assert sum(PATIENCE) >= AWAY_SECONDS


def test_a_bug_is_not_tried_again() -> None:
    assert not again(worth_another_attempt(), ValueError("x"))
