"""Why a stage did not end well: a cause that goes away by itself, or one that a person must put right."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cspipe.runtime.ends import End, StageEnd
from cspipe.runtime.storage_errors import Unreachable
from flows.command import Ended

RETRIES = 4
"""Attempts after the first, as long as each gets further."""
AWAY_SECONDS = 30 * 60.0
"""How long S3 is waited for, at the start of an attempt and at each transfer, whatever the progress."""
DELAYS = [15.0, 30.0, *[60.0] * 18]
"""Seconds before each new attempt."""


class StageFailed(Exception):
    """The stage will fail again: a bad parameter, a loss that is not finite, a bug. Never retried."""


class Transient(Exception):
    """Preempted, its worker lost, or its training another's: the same stage again may well end.

    `reached` is how many images the attempt had done, as far as it could tell.
    """

    def __init__(self, reason: str, reached: int = 0) -> None:
        super().__init__(reason)
        self.reached = reached


class Away(Transient):
    """S3 did not answer."""


class Killed(Transient):
    """The stage was ended by signal 9, which nothing but the system's log explains."""


PASSING = {End.PREEMPTED: Transient, End.TAKEN_OVER: Transient, End.S3_AWAY: Away}


def failure(stage: str, ended: Ended, said: StageEnd | None, hours: float, reached: int) -> StageFailed | Transient:
    """The exception for a `dvc repro` of the stage that failed; `said`: what the stage itself wrote, if it began."""
    if ended.timed_out:
        return StageFailed(f"{stage}: not done after {hours:g} hours (meta.hours in dvc.yaml); its state is kept")
    if ended.status in (-signal.SIGKILL, 128 + signal.SIGKILL) or (said is not None and said.end is None):
        return Killed(
            f"{stage}: killed from outside (signal 9) at {reached} images, often for want of memory; started again, it "
            "goes on from its last stored state, if there is one",
            reached,
        )
    if said is None or said.end is None or said.end is End.DONE:
        return StageFailed(f"{stage}: {reason(ended.lines)}")
    if said.end in PASSING:
        return PASSING[said.end](f"{stage}: {said.message}", reached)
    return StageFailed(f"{stage}: {said.message}")


def reason(lines: Sequence[str]) -> str:
    """The line that says what went wrong: the stage's own message, else the last error, else the last line."""
    own = [line for line in lines if line.startswith("cspipe ")]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith("ERROR: failed to reproduce")]
    printed = [line for line in lines if line]
    return next((found[-1] for found in (own, errors, printed) if found), "ended without a word")


def worth_another_attempt() -> Callable[[Task[Any, Any], TaskRun, State[Any]], bool]:
    """A retry condition for one stage.

    After S3 was away always: the next attempt begins by waiting for it. After signal 9 once. After another cause that
    passes as long as each attempt gets further than those before, a few times.
    """
    reached: list[int] = []
    kills = 0

    def condition(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        """Whether to try again after this end."""
        nonlocal kills
        try:
            state.result()
        except (Away, Unreachable):
            return True
        except Killed:
            kills += 1
            return kills < 2
        except Transient as error:
            reached.append(error.reached)
            return len(reached) < 2 or (len(reached) <= RETRIES and reached[-1] > max(reached[:-1]))
        except Exception:
            pass
        return False

    return condition
