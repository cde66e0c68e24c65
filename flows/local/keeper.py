"""Start again what has ended of the local stack: what the process of `cspipe up` does once all is ready."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cspipe.runtime.errors import UserError
from flows.local import processes
from flows.local.parts import serves, start
from flows.local.record import Stack
from flows.local.stopping import KEEPER, S3, SERVER, SUPERVISOR

SECONDS_BETWEEN_LOOKS = 1.0
STARTS = 5
"""How often in a row a part is started again; then only `cspipe up` does it."""
FIRST_PAUSE, STEADY = 1.0, 300.0
"""Seconds before the first start, each later pause being twice as long; seconds after which a part counts as well."""
AGAIN = signal.SIGUSR1
"""What has the keeper start at once what has ended, also what it has given up."""


@dataclass
class Restarts:
    """How often a part has ended in a row, when it was started last, and when it may be (seconds of the clock)."""

    count: int = 0
    started: float = 0.0
    start_at: float | None = None
    """None while it runs."""


@dataclass
class Keeper:
    """What is known of the parts of a stack."""

    stack: Stack
    start: Callable[[Stack, str], object] = start
    restarts: dict[str, Restarts] = field(default_factory=dict)

    def keep(self) -> None:
        """Keep the stack, for ever."""
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """One round: note what has ended, start what may be started."""
        for part in [part for part in self.stack.parts if part.name != KEEPER]:
            restarts = self.restarts.setdefault(part.name, Restarts())
            if part.process is not None:
                restarts.count = 0 if now - restarts.started > STEADY else restarts.count
            elif restarts.start_at is None:
                restarts.count += 1
                restarts.start_at = now + FIRST_PAUSE * 2 ** (restarts.count - 1)
                self._report(part.name, restarts.count, restarts.start_at - now)
            elif restarts.count <= STARTS and now >= restarts.start_at and self._may_start(part.name):
                restarts.started, restarts.start_at = now, None
                try:
                    self.start(self.stack, part.name)
                    _say(f"{part.name} started again")
                except (UserError, OSError) as error:  # it still counts as ended at the next look
                    _say(f"{part.name} cannot be started: {error}")

    def forget(self) -> None:
        """Start everything at the next look, also what was given up."""
        for restarts in self.restarts.values():
            restarts.count, restarts.start_at = min(restarts.count, 1), None if restarts.start_at is None else 0.0

    def _may_start(self, name: str) -> bool:
        """A worker ends at once without a server."""
        return name in (S3, SERVER, SUPERVISOR) or serves(self.stack)

    def _report(self, name: str, count: int, pause: float) -> None:
        again = f"it is started again in {pause:.0f} s"
        if count > STARTS:
            again = f"{count} times in a row; only `cspipe up` starts it again now"
        log = self.stack.log(name)
        _say(f"{name} has ended; {again}; its last lines (all in {log}):\n{processes.tail(log, 5)}")


def _say(text: str) -> None:
    processes.say(f"{time.strftime('%H:%M:%S')} {text}")
