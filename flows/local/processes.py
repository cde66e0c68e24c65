"""Long-running processes: start them apart from the terminal, find them again, end them with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "CSPIPE_STACK"
"""Environment variable that marks all processes of a stack, also those that its ended parts left behind."""


@dataclass(frozen=True)
class Part:
    """A process of the stack. `started`: seconds since 1970; tells it from a later process with the same pid."""

    name: str
    pid: int
    started: float

    @property
    def process(self) -> psutil.Process | None:
        """The running process, None if it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 2  # the kernel's clock is adjusted now and then
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        return None


@dataclass(frozen=True)
class Program:
    """A program to start: its name, command, working folder and whole environment."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


def start(program: Program, log: Path | None) -> Part:
    """Start a program that writes to `log`, for None to the terminal, but does not get the terminal's Ctrl-C."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if log is None else log.open("ab") as out:
        process = subprocess.Popen(
            program.command, cwd=program.folder, env=program.environment, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    return as_part(program.name, process.pid)


def as_part(name: str, pid: int) -> Part:
    """Return this process, or a child of it, as a part of the stack; it may have ended already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return Part(name, pid, psutil.Process(pid).create_time())
    return Part(name, pid, time.time())


def find_marked(mark: str) -> list[psutil.Process]:
    """Return every process with this value of MARK in its environment, except the calling one."""
    found = psutil.process_iter()
    return [process for process in found if variable(process, MARK) == mark and process.pid != os.getpid()]


def variable(process: psutil.Process, name: str) -> str | None:
    """Return a variable of a process's environment; None if it is unset, or the process ended or is another user's."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(name)
    return None


def stop(processes: Iterable[psutil.Process | None], grace: float) -> None:
    """Send SIGTERM to processes and all their descendants, and SIGKILL to those that are left after `grace` seconds."""
    left = running(process for process in processes if process is not None)
    signal_each(left, signal.SIGTERM)
    patience = time.monotonic() + grace
    while (left := running(left)) and time.monotonic() < patience:
        time.sleep(0.2)
    kill(left)


def kill(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL to each of the processes, and wait at most 5 s for their ends."""
    signal_each(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=5)


def signal_each(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each of the processes that still exists."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run, with all their descendants. Reaps ended children of this process."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.wait_procs(list(processes), timeout=0)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found |= {other.pid: other for other in (process, *process.children(recursive=True))}
    return list(found.values())


def signals_interrupt() -> None:
    """Make SIGTERM and a closed terminal end this process as Ctrl-C does: by KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Ignore SIGINT, SIGTERM and SIGHUP, so that stopping is not interrupted; all its waits have time limits."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, "" if there is no such file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def say(text: str) -> None:
    """Print a line; do nothing if the terminal is gone, so that the stopping of a stack goes on."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
