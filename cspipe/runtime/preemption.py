"""Handling of SIGTERM, by which a machine is reclaimed: work is saved, the process ends soon, the same command resumes.

Ctrl-C also leaves time to work that saves itself; a second Ctrl-C ends the process at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from select import select
from types import FrameType

from cspipe.runtime.ranks import inside

SAME_REQUEST = 5.0
"""Seconds within which a second SIGTERM is the same request: a process gets it with its group, then from its parent."""


class Preempted(BaseException):
    """Raised where SIGTERM stops the work. It is no Exception, like KeyboardInterrupt, so that nothing swallows it."""


class _Handler:
    """Handler of SIGTERM and Ctrl-C in a stage; `came` is the time of SIGTERM, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.came: float | None = None
        self.deferred = self.interrupted = False

    @property
    def asked(self) -> bool:
        """Whether SIGTERM or Ctrl-C has come."""
        return self.came is not None or self.interrupted

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.interrupted or not self.deferred:
                raise KeyboardInterrupt
            self.interrupted = True
            _acknowledge(b"stopping as soon as the work is saved; Ctrl-C again stops at once\n")
        elif self.came is None:
            self.came = time.monotonic()
            if not self.deferred:
                raise Preempted
            _acknowledge(b"stopping as soon as the work is saved\n")
        elif time.monotonic() - self.came > SAME_REQUEST and not inside():  # a rank leaves this to its launcher
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def _acknowledge(line: bytes) -> None:
    """Write a line to stderr, unless in a rank, whose launcher does. A print may be what the signal interrupts."""
    if not inside():
        with suppress(OSError, ValueError):
            if select([], [2], [], 0)[1]:  # a pipe that nobody reads, or a stopped terminal, must not hold the stage
                os.write(2, b"\n" + line)


def _handler() -> _Handler:
    """Handler of the stage in this process; outside of a stage, a new one that receives no signals."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, _Handler) else _Handler()


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Context in which SIGTERM raises Preempted, at once or after `sigterm_deferred`; a later one ends the process.

    Ctrl-C raises KeyboardInterrupt likewise, unless it is ignored, as in a shell's background job.
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
    """Context in which signals do not interrupt: yield a function that says whether SIGTERM or Ctrl-C has come.

    The body calls it, saves its work and ends by itself. After Ctrl-C, a Preempted that it raises becomes
    KeyboardInterrupt.
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


def sigterm_soon() -> bool:
    """Whether SIGTERM has come or comes within SAME_REQUEST seconds, as it does in a rank when another rank is lost."""
    handler, last = _handler(), time.monotonic() + SAME_REQUEST
    handler.deferred = True
    while handler.came is None and time.monotonic() < last:
        time.sleep(0.05)
    return handler.came is not None


def stop_if_asked() -> None:
    """Raise Preempted or KeyboardInterrupt if SIGTERM or Ctrl-C has come.

    For waits in `sigterm_deferred`, where there is no work to save yet.
    """
    if _handler().asked:
        raise KeyboardInterrupt if _handler().interrupted else Preempted
