"""Long-running parts of the local stack as processes: started apart from the terminal, known again, ended whole."""

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
"""Variable by which everything that a stack has started is found again, also what its parts started and left behind."""


@dataclass(frozen=True)
class Part:
    """A process of the stack. `started`: seconds since 1970, so that another process with a recycled pid is not it."""

    name: str
    pid: int
    started: float
    log: str
    """File, "" if it writes to the terminal."""
    grace: float
    """Seconds that it gets between SIGTERM and SIGKILL."""

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
    """What to start: its name, command, working folder, whole environment, and the grace that it needs at its end."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    grace: float


def start(program: Program, log: Path | None) -> Part:
    """Start a part that writes to `log`, or None to the terminal.

    It gets a session of its own, so that Ctrl-C in the terminal reaches it only through `stop`.
    """
    with contextlib.ExitStack() as stack:
        out = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            out = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            program.command, cwd=program.folder, env=program.environment, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    return as_part(program.name, process.pid, log, program.grace)


def as_part(name: str, pid: int, log: Path | None, grace: float) -> Part:
    """The part that a child process of ours is. It may have ended already."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    return Part(name, pid, started, "" if log is None else os.fspath(log), grace)


def stop(*parts: Part) -> None:
    """End parts and all that they started, together.

    SIGTERM to their process groups, and SIGKILL to what is left after the longest grace of a part.
    """
    family = []
    for process in [process for part in parts if (process := part.process)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [process, *process.children(recursive=True)]
    if family:
        _end(family, max(part.grace for part in parts))


def stop_alone(part: Part) -> None:
    """End a part and nothing of what it started."""
    if (process := part.process) is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            if psutil.wait_procs([process], timeout=part.grace)[1]:
                process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """Every process that carries `mark`, also what parts that died had started; not the calling process."""
    found = psutil.process_iter()
    return [process for process in found if variable(process, MARK) == mark and process.pid != os.getpid()]


def sweep(mark: str, grace: float) -> None:
    """End every process that carries `mark`. The calling process is spared."""
    _end(marked(mark), grace)


def variable(process: psutil.Process, name: str) -> str | None:
    """A variable of a process's environment, None if it has none, has ended, or is another user's."""
    environment: dict[str, str] = {}
    with contextlib.suppress(psutil.Error):
        environment = process.environ()
    return environment.get(name)


def interrupted_by_signals() -> None:
    """Make SIGTERM and a closed terminal end this process as Ctrl-C does: by KeyboardInterrupt."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def deaf_to_signals() -> None:
    """Let this process finish its stopping whatever comes; everything it waits for has a limit."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, "" if there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def stop_flow_runs(at_work: Iterable[psutil.Process], grace: float) -> None:
    """End flow runs: SIGTERM to what works below their engines; these are killed with what is left after `grace`.

    An engine is kept, as its stages write to it, but held as soon as nothing works below it: it would try again.
    """
    at_work = list(at_work)
    engines = [process for process in at_work if _is_engine(process)]
    stages = [process for process in at_work if process not in engines]
    for process in stages:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    patience = time.monotonic() + grace
    while True:
        for engine in engines:
            with contextlib.suppress(psutil.NoSuchProcess):
                if not _running(engine.children(recursive=True)):
                    engine.suspend()
        stages = _running(stages)
        if not stages or time.monotonic() > patience:
            break
        time.sleep(0.2)
    for process in [*stages, *engines]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([*stages, *engines], timeout=5)


def _is_engine(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return "prefect.engine" in process.cmdline()
    return False


def _end(processes: list[psutil.Process], grace: float) -> None:
    """SIGTERM, wait, SIGKILL. Flow runs are sessions of their own below their worker, hence the groups of all."""
    _signal(processes, signal.SIGTERM)
    patience = time.monotonic() + grace
    while (processes := _running(processes)) and time.monotonic() < patience:
        time.sleep(0.2)
    _signal(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=5)


def _running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run, and what they have started meanwhile. Reaps those that were our children."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.wait_procs(list(processes), timeout=0)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found |= {other.pid: other for other in (process, *process.children(recursive=True))}
    return list(found.values())


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signal the process group of each once; never our own."""
    groups = set()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    for group in groups - {os.getpgrp()}:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
