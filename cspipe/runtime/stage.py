"""The frame of every stage: its lock, its run log, and an end that both programs and people can read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from cspipe.runtime.code_lock import check_code
from cspipe.runtime.ends import End, StageEnd, file_of, write_end
from cspipe.runtime.errors import UserError
from cspipe.runtime.inputs import Inputs
from cspipe.runtime.preemption import Preempted, sigterm_raises, sigterm_soon
from cspipe.runtime.ranks import inside, name_of, rank
from cspipe.runtime.records import keep_records
from cspipe.runtime.runlog import LOGS, RunLog
from cspipe.runtime.wording import printable

PREPARED, MAIN, COMPENSATION = Path("data/prepared"), Path("models/main"), Path("models/compensation")
STATES = Path(".cspipe/states")
"""Folder of training states, outside of DVC's outputs, which DVC deletes before a run."""
AGAIN = "the same command goes on from the last stored state, if there is one"


@contextmanager
def stage(name: str) -> Iterator[RunLog]:
    """Context for the body of a stage: yield its log, and write the log if the stage succeeds.

    Errors that the user can fix, SIGTERM and Ctrl-C become one message and an exit status of End; the stage's file
    (runtime/ends.py) has both. Other exceptions are bugs and are raised again.
    """
    log = RunLog(name)
    with sigterm_raises():
        try:
            with nullcontext() if inside() else _alone(name):
                if not inside():
                    write_end(StageEnd(name))
                    check_code()
                log.inputs = Inputs(name)
                yield log
                if rank() == 0:
                    log.inputs.check()
                    log.write(LOGS)
                    keep_records(log.facts())
                    write_end(StageEnd(name, End.DONE))
        except (Exception, Preempted, KeyboardInterrupt) as error:
            if inside():
                _leave(name, error)
            known = _explain(error)
            end, message = known or (End.FAILED, f"{type(error).__name__}: {error}")
            with suppress(OSError):  # on a full disk the exit status must suffice
                write_end(StageEnd(name, end, message))
            if known is None:
                raise
            print(f"\ncspipe {printable(name)}: {message}", file=sys.stderr)
            sys.exit(end)  # W&B, which replaces sys.exit, learns here how its run ended


def _leave(name: str, error: BaseException) -> NoReturn:
    """Write why a rank ends, for its launcher, and end it at once, without waiting for other ranks, which may be lost.

    An unknown error soon followed by SIGTERM is taken for a consequence of losing another rank.
    """
    known = _explain(error)
    if known is None and sigterm_soon():
        known = End.PREEMPTED, "stopped with the other ranks"
    end, message = known or (End.FAILED, "".join(traceback.format_exception(error)))
    with suppress(OSError):
        write_end(StageEnd(name_of(name, rank()), end, message))
    sys.stdout.flush()
    os._exit(end)


def state_key(*parts: Any) -> str:
    """Name of a run's states: a digest of its parameters and inputs (anything that JSON can represent)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the lock of a stage in the current folder, freed however the process ends; exit if another process has it.

    The exit leaves the file untouched in which the other process says how it ends.
    """
    file = file_of(name, "lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(file).acquire(blocking=False)
    except Timeout:
        other = f"process {file.read_text().strip()} runs this stage in {Path.cwd()}"
        again = "wait for it to end, then run the same command again"
        print(f"\ncspipe {printable(name)}: {other}; {again}", file=sys.stderr)
        raise SystemExit(End.FAILED) from None
    with lock:
        file.write_text(f"{os.getpid()}\n")
        yield


@contextmanager
def one_at_a_time(work: Path) -> Iterator[None]:
    """Hold the lock beside `work`, a path of unfinished work that flow runs share; print a line before waiting."""
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{work}.lock")
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print(f"{work}: another run is at work there; waiting for it", flush=True)
        held = lock.acquire()
    with held:
        yield


def _explain(error: BaseException) -> tuple[End, str] | None:
    """(exit status, message with what to do) for an exception that ended a stage; None for a bug."""
    torch = sys.modules.get("torch")  # not imported here: some stages do not need it
    match error:
        case UserError():
            return error.end, str(error)
        case Preempted():
            return End.PREEMPTED, str(error) or f"stopped by SIGTERM; {AGAIN}"
        case KeyboardInterrupt():
            return End.STOPPED, str(error) or f"stopped; {AGAIN}"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            free, where = shutil.disk_usage(Path.cwd()).free / 2**20, error.filename or Path.cwd()
            full = f"the disk is full ({free:.0f} MiB free here, writing {where})"
            return End.CANNOT_WRITE, f"{full}; make room and run the same command again"
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            refused = f"no permission to write {error.filename or Path.cwd()} ({error.strerror})"
            return End.CANNOT_WRITE, f"{refused}; make it writable and run the same command again"
    if isinstance(error, MemoryError if torch is None else (MemoryError, torch.OutOfMemoryError)):
        smaller = "lower train.micro_batch or sample.batch in params.yaml"
        return End.OUT_OF_MEMORY, f"out of memory ({error}); {smaller}"
    return None
