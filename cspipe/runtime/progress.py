"""Progress of long work: a bar in a terminal, a line every 10 s in a log; nothing if CSPIPE_QUIET is set."""

from __future__ import annotations

import os
import sys
from collections import deque
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 10.0
RECENT = 60
"""Number of times, at least a second apart, that the speed is averaged over, so that pauses soon count no more."""


class Progress:
    """Counts images: `with Progress("train", total) as p: p.advance(64, note="loss 0.123")`."""

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "images") -> None:
        self.what, self.total, self.done, self.unit = what, total, done, unit
        self._shown, self._note = -1, ""
        self._last_line = monotonic()
        self._recent = deque([(self._last_line, done)], RECENT)
        self._quiet = bool(os.environ.get("CSPIPE_QUIET"))  # no option, as DVC starts the stages
        texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "note")]
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), texts[0], TimeRemainingColumn(), texts[1])
        self._bar = Bar(*columns) if Console().is_terminal and not self._quiet else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, rate="", note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._shown != self.done and not self._quiet:
            self._line()

    def advance(self, count: int, note: str | None = None) -> None:
        """Count `count` more images; `note` (a loss, say) stays until the next one."""
        self.done = min(self.done + count, self.total)
        self._note = self._note if note is None else note
        if monotonic() - self._recent[-1][0] >= 1:
            self._recent.append((monotonic(), self.done))
        if self._bar is not None:
            rate = f"{self._rate():.0f} {self.unit}/s{self._memory()}"
            self._bar.update(self._task, completed=self.done, rate=rate, note=self._note)
        elif monotonic() - self._last_line > SECONDS_BETWEEN_LINES and not self._quiet:
            self._line()

    def _rate(self) -> float:
        """Images per second over the RECENT times."""
        then, done = self._recent[0]
        return (self.done - done) / max(monotonic() - then, 1e-9)

    def _memory(self) -> str:
        """Text with the GPU memory that this process has reserved; "" if it does not use a GPU."""
        torch = sys.modules.get("torch")  # not imported here: the stage prepare does not need it
        if torch is None or not torch.cuda.is_initialized():
            return ""
        total = torch.cuda.get_device_properties().total_memory
        return f", {torch.cuda.memory_reserved() / 1e9:.1f} of {total / 1e9:.1f} GB of the GPU"

    def _line(self) -> None:
        self._last_line, self._shown = monotonic(), self.done
        left = (self.total - self.done) / max(self._rate(), 1e-9)
        share = 100 * self.done / max(self.total, 1)
        line = f"{self.what}: {self.done}/{self.total} ({share:.0f} %), {self._rate():.0f} {self.unit}/s"
        print(f"{line}, {left:.0f} s left{self._memory()}  {self._note}".rstrip(), file=sys.stderr, flush=True)
