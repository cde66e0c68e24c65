"""Start parts of the local stack again when they end: the work of the process of `cspipe up` once all is ready."""

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
"""Largest number of restarts of a part in a row; after them only `cspipe up` starts it again."""
FIRST_PAUSE, STEADY = 1.0, 300.0
"""Seconds before the first restart (each later pause is twice as long); seconds of running that reset the count."""
AGAIN = signal.SIGUSR1
"""Signal on which the keeper starts all ended parts at once, also those it has given up."""


@dataclass
class Restarts:
    """Restarts of one part. Times are in seconds of time.monotonic."""

    count: int = 0
    """How often the part has ended in a row."""
    started: float = 0.0
    """When it was last started again."""
    start_at: float | None = None
    """When it may be started again; None while it runs."""


@dataclass
class Keeper:
    """Starts the parts of a stack again when they end, with growing pauses."""

    stack: Stack
    start: Callable[[Stack, str], object] = start
    restarts: dict[str, Restarts] = field(default_factory=dict)

    def keep(self) -> None:
        """Look after the stack every second, until a signal interrupts this process."""
        while True:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Do one round: note the parts that have ended, start those whose pause is over."""
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
                except (UserError, OSError) as error:  # the part counts as ended again in the next round
                    _say(f"{part.name} cannot be started: {error}")

    def forget(self) -> None:
        """Start all ended parts at the next round, also those that were given up."""
        for restarts in self.restarts.values():
            restarts.count, restarts.start_at = min(restarts.count, 1), None if restarts.start_at is None else 0.0

    def _may_start(self, name: str) -> bool:
        """Whether a part may be started: workers only when the server answers, as they end at once without it."""
        return name in (S3, SERVER, SUPERVISOR) or serves(self.stack)

    def _report(self, name: str, count: int, pause: float) -> None:
        again = f"it is started again in {pause:.0f} s"
        if count > STARTS:
            again = f"{count} times in a row; only `cspipe up` starts it again now"
        log = self.stack.log(name)
        _say(f"{name} has ended; {again}; its last lines (all in {log}):\n{processes.tail(log, 5)}")


def _say(text: str) -> None:
    processes.say(f"{time.strftime('%H:%M:%S')} {text}")
