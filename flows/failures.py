"""Errors of stages: causes that may pass by themselves and are retried, and causes that a person must fix."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cspipe.runtime.ends import End, StageEnd
from cspipe.runtime.storage_errors import StorageError
from flows.command import Ended

RETRIES = 4
"""Largest number of retries of a stage; each attempt must get further than those before."""
AWAY_SECONDS = 30 * 60.0
"""Seconds that an attempt waits for S3 at its start, however far earlier attempts got."""
DELAYS = [15.0, 30.0, *[60.0] * 18]
"""Seconds before each new attempt at a stage."""


PASSING = (End.PREEMPTED, End.TAKEN_OVER, End.S3_AWAY, End.KILLED)
"""Ends after which another attempt at the same stage may succeed."""


class StageFailed(Exception):
    """The stage would fail again, as with a bad parameter, a loss that is not finite, a bug. Never retried."""

    end = End.FAILED


class Transient(Exception):
    """The stage may succeed when run again: preempted, also by the loss of its worker, or another end of PASSING.

    `reached`: images that the attempt had done, as far as is known.
    """

    def __init__(self, reason: str, end: End = End.PREEMPTED, reached: int = 0) -> None:
        super().__init__(reason)
        self.end, self.reached = end, reached


def failure(stage: str, ended: Ended, written: StageEnd | None, hours: float, reached: int) -> StageFailed | Transient:
    """Return the exception for a failed `dvc repro` of a stage; `written`: the end that the stage recorded, if any."""
    if ended.timed_out:
        return StageFailed(f"{stage}: not done after {hours:g} hours (meta.hours in dvc.yaml); its state is kept")
    if written is None or written.end is End.DONE:
        written = StageEnd(stage, End.FAILED, reason(ended.lines).removeprefix(f"cspipe {stage}: "))
    if written.end is End.KILLED or ended.status in (-signal.SIGKILL, End.KILLED):
        return Transient(
            f"{stage}: killed from outside (signal 9) at {reached} images, often for want of memory; started again, it "
            "goes on from its last stored state, if there is one",
            End.KILLED,
            reached,
        )
    return stage_error(f"{stage}: {written.message}", written.end, reached)


def pause(seconds: float, unwanted: Callable[[], bool]) -> None:
    """Wait for `seconds`. Raises StageFailed once `unwanted`, called every 2 s, is true: the stage is not needed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if unwanted():
            raise StageFailed("nobody waits for it any more")
        time.sleep(min(left, 2.0))


def stage_error(message: str, end: End, reached: int) -> StageFailed | Transient:
    """Return the exception for an end: Transient if it is one of PASSING, else StageFailed."""
    return Transient(message, end, reached) if end in PASSING else StageFailed(message)


def reason(lines: Sequence[str]) -> str:
    """Return the line that says what went wrong: the stage's own message, else the last error, else the last line."""
    ours = [line for line in lines if line.startswith("cspipe ")]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith("ERROR: failed to reproduce")]
    printed = [line for line in lines if line]
    return next((found[-1] for found in (ours, errors, printed) if found), "ended without a word")


def worth_another_attempt() -> Callable[[Task[Any, Any], TaskRun, State[Any]], bool]:
    """Return a retry condition for one stage, which counts its attempts.

    If S3 was away it always retries: the next attempt begins by waiting for S3. After signal 9 it retries once. After
    another cause that may pass it retries up to RETRIES times, if each attempt gets further than those before.
    """
    reached: list[int] = []
    kills = 0

    def condition(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        """Whether to try again after the end in `state`."""
        nonlocal kills
        try:
            state.result()
        except (Transient, StorageError) as error:
            if error.end is End.S3_AWAY:
                return True
            if error.end is End.KILLED:
                kills += 1
                return kills < 2
            if isinstance(error, Transient):
                reached.append(error.reached)
                return len(reached) < 2 or (len(reached) <= RETRIES and reached[-1] > max(reached[:-1]))
        except Exception:
            pass
        return False

    return condition
