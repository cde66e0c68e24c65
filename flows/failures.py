"""Why a stage did not end well: a cause that goes away by itself, or one that a person must put right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from cspipe.storage_errors import Unreachable
from flows.command import Ended

PREEMPTED = 75
RETRIES, FIRST_DELAY = 4, 15.0
"""Attempts after the first, and seconds before the first of them; each later pause is twice as long."""
PASSING = ("is unreachable", "does not serve", "another worker took over this run", "another worker finished this run")
"""How a stage tells that S3 does not answer, or that another run has the same training (storage_errors, mirror)."""


class StageFailed(Exception):
    """The stage will fail again: a bad parameter, a loss that is not finite, a bug. Never retried."""


class Transient(Exception):
    """Preempted, worker lost, or S3 unreachable: the same stage again may well end.

    `reached` is how many images the attempt had done, as far as it could tell.
    """

    def __init__(self, reason: str, reached: int = 0) -> None:
        super().__init__(reason)
        self.reached = reached


def failure(stage: str, ended: Ended, hours: float, reached: int) -> StageFailed | Transient:
    """The exception for a `dvc repro` of the stage that ended with a status other than 0."""
    if ended.timed_out:
        return StageFailed(f"{stage}: not done after {hours:g} hours (meta.hours in dvc.yaml); its state is kept")
    if any(f"exited with {PREEMPTED}" in line for line in ended.lines):
        return Transient(f"{stage}: preempted at {reached} images; its state is kept", reached)
    told = reason(ended.lines)
    if told.startswith("cspipe ") and any(words in told for words in PASSING):
        return Transient(f"{stage}: {told}", reached)
    return StageFailed(f"{stage}: {told.removeprefix(f'cspipe {stage}: ')}")


def reason(lines: Sequence[str]) -> str:
    """The line that says what went wrong: the stage's own message, else the last error, else the last line."""
    own = [line for line in lines if line.startswith("cspipe ")]
    errors = [line for line in lines if "error" in line.lower() and not line.startswith("ERROR: failed to reproduce")]
    printed = [line for line in lines if line]
    return next((found[-1] for found in (own, errors, printed) if found), "ended without a word")


def progressing() -> Callable[[Task[Any, Any], TaskRun, State[Any]], bool]:
    """A retry condition for one stage: after a transient cause, and not when two attempts got no further than one.

    An attempt that found S3 unreachable before its stage began got nowhere.
    """
    reached: list[int] = []

    def condition(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
        """Whether to try again after this end."""
        try:
            state.result()
        except (Transient, Unreachable) as error:
            reached.append(error.reached if isinstance(error, Transient) else 0)
            return len(reached) < 2 or reached[-1] > max(reached[:-1])
        except Exception:
            pass
        return False

    return condition
