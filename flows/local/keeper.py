"""Start again what has ended of the local stack: `python -m flows.local.keeper`, a part of it.

It works in the stack's folder, by its stack.json, until it is told to end or the stack is gone. `cspipe down` ends it
before it stops anything else, so that the two never work against each other.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from cspipe.runtime.errors import UserError
from flows.local import processes
from flows.local.processes import Part
from flows.local.stack import KEEPER, STORES, WATCHERS, Stack, read
from flows.local.stack_parts import AGAIN, answers, start_again

SECONDS_BETWEEN_LOOKS = 1.0
STARTS = 5
"""How often in a row a part is started again; then only `cspipe up` does it."""
FIRST_PAUSE, STEADY = 1.0, 300.0
"""Seconds before the first start, each later pause being twice as long; seconds after which a part counts as well."""


@dataclass
class Falls:
    """How often a part has ended in a row, and when it may be started (seconds of the monotonic clock)."""

    count: int = 0
    start_at: float = 0.0
    started: float = 0.0
    waiting: bool = False


@dataclass
class Keeper:
    """What the keeper knows of the parts. `ended` is set by the signal that ends it."""

    falls: dict[str, Falls] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def look(self, stack: Stack) -> None:
        """One round: note what has ended, start what may be started."""
        now = time.monotonic()
        for part in [part for part in stack.parts if part.name != KEEPER and not self.ended.is_set()]:
            falls = self.falls.setdefault(part.name, Falls())
            if part.process is not None:
                if now - falls.started > STEADY:
                    falls.count = 0
            elif not falls.waiting:
                self._fallen(part, falls, now)
            elif falls.count <= STARTS and now >= falls.start_at and _may_start(stack, part):
                self._start(stack, part, falls, now)

    def forget(self) -> None:
        """Start everything at the next look, also what was given up."""
        for falls in self.falls.values():
            falls.count, falls.start_at = min(falls.count, 1), 0.0

    def _fallen(self, part: Part, falls: Falls, now: float) -> None:
        falls.count += 1
        falls.waiting = True
        pause = FIRST_PAUSE * 2 ** (falls.count - 1)
        falls.start_at = now + pause
        last = f"its last lines (all in {part.log}):\n{processes.tail(Path(part.log), 5)}"
        if falls.count > STARTS:
            return _say(f"{part.name} has ended {falls.count} times; only `cspipe up` starts it again now; {last}")
        _say(f"{part.name} has ended; it is started again in {pause:.0f} s; {last}")

    def _start(self, stack: Stack, part: Part, falls: Falls, now: float) -> None:
        falls.started, falls.waiting = now, False
        try:
            start_again(stack, part.name)
        except (UserError, OSError) as error:
            return _say(f"{part.name} cannot be started: {error}")  # it still counts as ended at the next look
        _say(f"{part.name} started again")


def _may_start(stack: Stack, part: Part) -> bool:
    """A worker ends at once without a server."""
    return part.name in (*WATCHERS, *STORES) or answers(stack.api)


def keep(home: Path) -> None:
    """Keep the stack of a folder, until it is gone or SIGTERM comes, and then end between two starts."""
    keeper = Keeper()
    signal.signal(signal.SIGTERM, lambda number, frame: keeper.ended.set())
    signal.signal(AGAIN, lambda number, frame: keeper.forget())
    mark = os.environ[processes.MARK]
    while not keeper.ended.wait(SECONDS_BETWEEN_LOOKS):
        stack = read(home)
        if stack is None or stack.mark != mark:
            return
        keeper.look(stack)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    keep(Path.cwd())
