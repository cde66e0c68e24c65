"""What is tried again, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Failed

from cspipe.storage_errors import Unreachable
from flows.command import Ended
from flows.failures import StageFailed, Transient, failure, progressing


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
    assert not again(progressing(), error)


def test_a_stage_that_found_s3_away_is_transient() -> None:
    error = failure("train", ended("cspipe train: S3 at http://x is unreachable (refused, to list y); start it"), 1, 0)
    assert isinstance(error, Transient)


def test_a_timeout_is_not_tried_again() -> None:
    error = failure("train", ended(timed_out=True), 2, 0)
    assert isinstance(error, StageFailed)
    assert "2 hours" in str(error)


def test_a_transient_cause_is_tried_again_while_there_is_progress() -> None:
    condition = progressing()
    assert again(condition, Transient("preempted", 0))
    assert again(condition, Transient("preempted", 100))
    assert again(condition, Transient("preempted", 200))
    assert not again(condition, Transient("preempted", 200))


def test_never_twice_without_progress() -> None:
    condition = progressing()
    assert again(condition, Transient("worker lost", 0))
    assert not again(condition, Transient("worker lost", 0))


def test_an_unreachable_store_is_tried_again_but_not_twice_without_progress() -> None:
    condition = progressing()
    assert again(condition, Unreachable("S3 does not answer"))
    assert not again(condition, Unreachable("S3 does not answer"))
    condition = progressing()
    assert again(condition, Unreachable("S3 does not answer"))
    assert again(condition, Transient("preempted", 100))
    assert not again(condition, Unreachable("S3 does not answer"))


def test_a_bug_is_not_tried_again() -> None:
    assert not again(progressing(), ValueError("x"))
