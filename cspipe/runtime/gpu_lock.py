"""One GPU, one process: a lock file per GPU, held as long as the process lives.

A stage that asks for several GPUs runs below a process that has locked them, and is granted them by a variable.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/tmp")
"""The same for everyone, whatever TMPDIR says."""
SECONDS_BETWEEN_TRIES, SECONDS_BETWEEN_LINES = 1.0, 60.0
GRANTED = "CSPIPE_GPUS"
"""Variable: UUIDs, with commas between, of GPUs that a process above this one holds for it."""
GATE = "several"
"""Lock of whoever collects several GPUs: it holds some while it waits for others, so there may be but one of them."""

_held: dict[str, int] = {}
"""Open files of the locks this process has; the system drops the locks with the process."""


def take_first(names: Sequence[str]) -> int:
    """Lock the first free GPU of `names` (UUIDs) and return its place; wait, with a line a minute, while none is.

    A process that has one of them already keeps it. Everyone on the machine meets in the same files, which hold the
    owner's process id.
    """
    if set(names) <= set(os.environ.get(GRANTED, "").split(",")):
        return 0
    for place, name in enumerate(names):
        if name in _held:
            return place
    return names.index(_wait(names))


def take_several(names: Sequence[str], count: int) -> list[str]:
    """Lock `count` GPUs of `names` (UUIDs, at least so many) and return which; wait, with a line a minute, for others.

    Two that want several cannot wait for each other: one collects at a time, the other begins when it is done.
    """
    _wait([GATE])
    try:
        taken: list[str] = []
        while len(taken) < count:
            taken.append(_wait([name for name in names if name not in taken]))
        return taken
    finally:
        os.close(_held.pop(GATE))


def _wait(names: Sequence[str]) -> str:
    """Lock the first free one and return it."""
    told = -SECONDS_BETWEEN_LINES
    while True:
        for name in names:
            if _take(name):
                return name
        if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            users = ", ".join(f"GPU {name} is used by process {_owner(name)}" for name in names)
            print(f"{users}; waiting for it to end", file=sys.stderr, flush=True)
        time.sleep(SECONDS_BETWEEN_TRIES)


def lock_file(name: str) -> Path:
    """Where the lock of a GPU is."""
    return FOLDER / f"cspipe-gpu-{name}.lock"


def _take(name: str) -> bool:
    handle = _open(lock_file(name))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    _held[name] = handle
    return True


def _open(path: Path) -> int:
    """Open the file for everyone; without O_CREAT where it exists, which sticky folders refuse to others."""
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            with suppress(FileExistsError):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(handle, 0o666)  # whatever the umask
                return handle


def _owner(name: str) -> str:
    return lock_file(name).read_text().strip() or "unknown"
