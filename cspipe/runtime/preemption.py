"""SIGTERM: the machine is wanted elsewhere. Work is kept and the process ends soon; run again, it goes on.

Ctrl-C keeps work that saves itself too; a second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cspipe.runtime.ranks import inside

SAME_REQUEST = 5.0
"""Seconds in which SIGTERM repeats the one before: a process gets it with its group, and then from its parent."""


class Preempted(BaseException):
    """Raised where SIGTERM stops the work; like KeyboardInterrupt it is no Exception, so that nothing swallows it."""


class _Handler:
    """What SIGTERM and Ctrl-C do in a stage, and when SIGTERM came, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.came: float | None = None
        self.deferred = self.interrupted = False

    @property
    def asked(self) -> bool:
        """Whether either has come."""
        return self.came is not None or self.interrupted

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.interrupted or not self.deferred:
                raise KeyboardInterrupt
            self.interrupted = True
        elif self.came is None:
            self.came = time.monotonic()
            if not self.deferred:
                raise Preempted
        elif time.monotonic() - self.came > SAME_REQUEST and not inside():  # a rank's launcher counts the seconds
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def _handler() -> _Handler:
    """That of the stage in this process; outside of one, a handler that never hears of a signal."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, _Handler) else _Handler()


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """In the body SIGTERM raises Preempted, at once or after `sigterm_deferred`; a later one ends the process.

    Ctrl-C raises KeyboardInterrupt likewise, unless it is ignored, as it is by a shell's background job.
    """
    handler, heard = _Handler(), [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        heard.append(signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextmanager
def sigterm_deferred() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or Ctrl-C has come: the body saves its work and ends by itself.

    Where it was Ctrl-C, the body's Preempted becomes KeyboardInterrupt.
    """
    handler = _handler()
    handler.deferred = True
    try:
        yield lambda: handler.asked
    except Preempted as error:
        if handler.interrupted:
            raise KeyboardInterrupt(*error.args) from None
        raise
    finally:
        handler.deferred = False
    stop_if_asked()


def asked_soon() -> bool:
    """Whether SIGTERM has come or comes within SAME_REQUEST, as it does to a rank when another is lost."""
    handler, last = _handler(), time.monotonic() + SAME_REQUEST
    handler.deferred = True
    while handler.came is None and time.monotonic() < last:
        time.sleep(0.05)
    return handler.came is not None


def stop_if_asked() -> None:
    """Raise if SIGTERM or Ctrl-C has come: for a wait in `sigterm_deferred`, where there is no work to save yet."""
    if _handler().asked:
        raise KeyboardInterrupt if _handler().interrupted else Preempted
