"""Long-running processes: started apart from the terminal, known again, ended with all that they started."""

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
"""Variable by which everything that a stack has started is found again, also what its parts left behind."""


@dataclass(frozen=True)
class Part:
    """A process of the stack. `started`: seconds since 1970, so that another process with a recycled pid is not it."""

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
    """What to start: its name, command, working folder and whole environment."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


def start(program: Program, log: Path | None) -> Part:
    """Start a program that writes to `log`, or None to the terminal, but does not get the terminal's Ctrl-C."""
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if log is None else log.open("ab") as out:
        process = subprocess.Popen(
            program.command, cwd=program.folder, env=program.environment, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    return as_part(program.name, process.pid)


def as_part(name: str, pid: int) -> Part:
    """The part that this process or a child of it is. It may have ended already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return Part(name, pid, psutil.Process(pid).create_time())
    return Part(name, pid, time.time())


def marked(mark: str) -> list[psutil.Process]:
    """Every process that carries `mark`, but the calling one."""
    found = psutil.process_iter()
    return [process for process in found if variable(process, MARK) == mark and process.pid != os.getpid()]


def variable(process: psutil.Process, name: str) -> str | None:
    """A variable of a process's environment, None if it has none, has ended, or is another user's."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(name)
    return None


def stop(processes: Iterable[psutil.Process | None], grace: float) -> None:
    """SIGTERM to processes and all that they have started, and SIGKILL to what is left after `grace` seconds."""
    left = running(process for process in processes if process is not None)
    signal_each(left, signal.SIGTERM)
    patience = time.monotonic() + grace
    while (left := running(left)) and time.monotonic() < patience:
        time.sleep(0.2)
    kill(left)


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to each of the processes."""
    signal_each(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=5)


def signal_each(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each of the processes, but to none that has ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run, and all that they have started. Reaps those that were our children."""
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
    """Let this process finish its stopping whatever comes; everything it waits for has a limit."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, "" if there is none."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else ""


def say(text: str) -> None:
    """Print a line; nothing if the terminal is gone, since what is stopped then must be stopped all the same."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
