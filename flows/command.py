"""Run a long command under Prefect: pass on its lines and progress, limit its time, end all processes it started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.local.processes import stop

SECONDS_BETWEEN_PROGRESS = 30.0
SECONDS_BETWEEN_LOOKS = 2.0
GRACE = 25.0
"""Seconds from SIGTERM to SIGKILL, in which a process stores its state; Prefect's own limit is 30."""
SHORT_GRACE = 7.0
"""Seconds from SIGTERM to SIGKILL if the result is no longer needed; a state stored earlier has to suffice."""
PROGRESS = re.compile(
    r"(?P<what>.+): (?P<done>\d+)/(?P<total>\d+) \(\d+ %\)(, (?P<rate>\d+) \w+/s)?(, (?P<left>\d+) s left)?"
)


@dataclass(frozen=True)
class Step:
    """Progress of a command: name of the work, images done of total, images per second, seconds left."""

    what: str
    done: int
    total: int
    rate: int
    left: int

    def reached(self, stage: str) -> int:
        """Return the images done in the stage's own work; 0 for its other work, such as train-norm, on other images."""
        return self.done if is_own_work(self.what, stage) else 0


def is_own_work(what: str, stage: str) -> bool:
    """Whether a line of progress is of the stage's own work: "train" of train, "train-norm" not."""
    return what.partition(" ")[0] == stage.partition("@")[0]


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit status (negative: the signal that ended it) and last lines."""

    status: int
    lines: tuple[str, ...]
    """Last 200 lines that the command printed, without those of progress."""
    timed_out: bool = False


def as_step(line: str) -> Step | None:
    """Return the progress in a line of a stage (runtime/progress.py), or None for any other line."""
    found = PROGRESS.match(line)
    if found is None:
        return None
    return Step(found["what"], *(int(found[key] or 0) for key in ("done", "total", "rate", "left")))


def run_command(
    command: Sequence[str],
    folder: Path,
    *,
    tell: Callable[[str], None],
    progress: Callable[[Step], None] = lambda step: None,
    hours: float = 1.0,
    unwanted: Callable[[], bool] = lambda: False,
    environment: dict[str, str] | None = None,
) -> Ended:
    """Run a command in `folder`, calling `tell` with each line; lines of progress at most every 30 s.

    It stays in the flow's process group, which Prefect signals at a cancellation. After `hours`, at an interrupt, or if
    `unwanted` (called every 2 s), it and all its descendants get SIGTERM, and SIGKILL after 25 s, 7 s if unwanted.
    """
    process = _start(command, folder, environment or {})
    top = psutil.Process(process.pid)  # exists until its status is collected below
    deadline, done, stopped = time.monotonic() + hours * 3600, threading.Event(), list[bool]()

    def watch() -> None:
        """End the command if it takes too long or is no longer wanted."""
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            if (late := time.monotonic() > deadline) or unwanted():
                stopped.append(late)
                stop([top], GRACE if late else SHORT_GRACE)
                return

    (watcher := threading.Thread(target=watch, daemon=True)).start()
    try:
        assert process.stdout is not None
        last = _follow(map(str.rstrip, process.stdout), tell, progress)
        status = process.wait()
        if stopped:
            status = status or -signal.SIGTERM  # subprocess reports 0 if another thread waited first
            watcher.join()  # until all that the command started is gone
    finally:
        done.set()
        if process.poll() is None:
            stop([top], GRACE)
    return Ended(status, tuple(last), any(stopped))


def _start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process: its outputs in one pipe, this interpreter first in PATH, as dvc.yaml's commands say `python`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.Popen(
        command, cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )  # fmt: skip


def _follow(lines: Iterable[str], tell: Callable[[str], None], progress: Callable[[Step], None]) -> deque[str]:
    """Pass lines on as they come, progress lines at most every 30 s; return the last 200 other lines."""
    last, shown = deque[str](maxlen=200), -SECONDS_BETWEEN_PROGRESS
    for line in lines:
        step = as_step(line)
        if step is None:
            last.append(line)
            if line:
                tell(line)
        elif step.done == step.total or time.monotonic() - shown >= SECONDS_BETWEEN_PROGRESS:
            shown = time.monotonic()
            tell(line)
            progress(step)
    return last
