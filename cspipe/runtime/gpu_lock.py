"""One lock file per GPU, so that one process uses it. The system releases a lock however its process ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from cspipe.runtime.wording import printable

FOLDER = Path("/tmp")
"""Folder of the lock files; the same for all users, whatever TMPDIR says."""
SECONDS_BETWEEN_TRIES, SECONDS_BETWEEN_LINES = 1.0, 60.0

_held: dict[str, FileLock] = {}
"""Locks that this process holds until it ends, by the GPU's UUID."""


def take(names: Sequence[str], count: int = 1) -> list[int]:
    """Lock the first `count` free GPUs of `names` (UUIDs), all or none, and return their indices.

    While too few are free it waits, and prints a line every minute. GPUs that this process already holds come first.
    """
    held, next_line = [name for name in names if name in _held], 0.0
    while True:
        locked = held[:count]
        for name in names:
            if len(locked) < count and name not in locked and _lock(name):
                locked.append(name)
        if len(locked) == count:
            return sorted(map(names.index, locked))
        for name in set(locked) - set(held):
            _held.pop(name).release()
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            users = ", ".join(f"GPU {name} is used by process {_user(name)}" for name in names)
            print(f"{users}; waiting for it to end", file=sys.stderr, flush=True)
        time.sleep(SECONDS_BETWEEN_TRIES)


def lock_file(name: str) -> Path:
    """Path of a GPU's lock file, which contains the id of the process that uses the GPU."""
    return FOLDER / f"cspipe-gpu-{name}.lock"


def _lock(name: str) -> bool:
    lock = FileLock(lock_file(name), mode=0o666, on_acquired=_write_pid)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    _held[name] = lock
    return True


def _write_pid(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())


def _user(name: str) -> str:
    with lock_file(name).open(errors="replace") as file:  # any user of the machine can write to it
        return printable(file.read(20).strip()) or "unknown"
