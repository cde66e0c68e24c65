"""SIGTERM: the machine is wanted elsewhere. Work is kept and the process ends soon; run again, it goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

EXIT_STATUS = 75
"""EX_TEMPFAIL: nothing is wrong, run the same command again."""
SAME_REQUEST = 5.0
"""Seconds in which SIGTERM repeats the one before: a process gets it with its group, and then from its parent."""


class Preempted(BaseException):
    """Raised where SIGTERM stops the work; like KeyboardInterrupt it is no Exception, so that nothing swallows it."""


@dataclass
class _Request:
    """Signals belong to the process, and so does what became of them."""

    at: float | None = None
    """When SIGTERM came, in seconds of the monotonic clock."""
    deferred: bool = False


_request = _Request()


@contextmanager
def heeded() -> Iterator[None]:
    """In the body SIGTERM raises Preempted, at once or at the end of `deferred`; a later one ends the process."""
    _request.at, _request.deferred = None, False
    before = signal.signal(signal.SIGTERM, _take)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has come: the body saves its work and ends by itself."""
    _request.deferred = True
    try:
        yield lambda: _request.at is not None
    finally:
        _request.deferred = False
    if _request.at is not None:
        raise Preempted


def stop_if_asked() -> None:
    """Raise Preempted if SIGTERM has come: for a wait inside of `deferred`, where there is no work to save yet."""
    if _request.at is not None:
        raise Preempted


def _take(number: int, frame: FrameType | None) -> None:
    if _request.at is None:
        _request.at = time.monotonic()
        if not _request.deferred:
            raise Preempted
    elif time.monotonic() - _request.at > SAME_REQUEST:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
