"""Ownership of a run: a manifest in S3 lists the run's training states, and only the run's owner writes it.

The owner writes the manifest every 30 s, with or without a new state, as a sign of life, and only if it is unchanged
since the owner's last write. Another worker waits while the owner lives, and takes the run over after two minutes
without a sign of life; at once if it is another attempt of the same flow run, or if the owner was a process of this
machine that has ended. An owner that only hung notices the change at its next sign of life and stops. It cannot harm
the new owner: their states have different names.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import BaseModel, Field, ValidationError

from cspipe.runtime.ends import End
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import stop_if_asked
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged, Lost, StorageError
from cspipe.runtime.wording import printable

SECONDS_BETWEEN_BEATS = 30.0
SECONDS_BETWEEN_LOOKS, LOOKS = 10.0, 12
"""Seconds between two reads of another owner's manifest, and number of reads in a row without a change after which
that owner is lost. Reads are counted, not seconds, so that an outage does not make an owner look lost."""
HOST = re.sub(r"[^A-Za-z0-9.-]", "-", platform.node())


class TakenOver(UserError):
    """The run belongs to another worker now."""

    end = End.TAKEN_OVER


State = Annotated[str, Field(pattern=r"^[\w.-]+/\d{12}-[0-9a-f]{16}\.pt$")]
"""Name of a state in S3: `<owner>/<file>`."""


class Manifest(BaseModel):
    """The manifest of a run in S3: its owner, and the list of its states."""

    owner: str
    machine: str = ""
    pid: int = 0
    keeper: str | None = None
    beat: int = 0
    states: list[State] = []
    """Names of the states, in the order of images seen."""


class Lease:
    """Ownership of the run under `folder` of a bucket, by one process at a time.

    `keeper` is the flow run that deletes the states after it has pushed the result; None: `release` deletes them.
    """

    def __init__(self, bucket: Bucket, folder: str, keeper: str | None, sleep: Callable[[float], None]) -> None:
        self.bucket, self.folder, self._sleep = bucket, folder, sleep
        owner, pid = f"{HOST}-{os.getpid()}-{secrets.token_hex(4)}", os.getpid()
        self.manifest = Manifest(owner=owner, machine=_machine(), pid=pid, keeper=keeper)
        self.lost: TakenOver | None = None
        """The error, if a sign of life has found that another worker has the run; it stops this owner."""
        self._key, self._place = f"{folder}/manifest.json", f"{bucket.url}/{folder}"
        self._etag: str | None = None
        self._lock, self._released = threading.Lock(), threading.Event()

    def claim(self) -> None:
        """Become the owner of the run; while another owner lives, print one line and wait.

        Raises TakenOver if that owner finishes the run, Preempted at SIGTERM, StorageError if S3 is unreachable.
        """
        claimed = False
        while not claimed:
            states = self.wait()
            with suppress(TakenOver):  # the owner has given a sign of life, or another worker was faster
                self.write(states)
                claimed = True
        threading.Thread(target=self._live, name="heart", daemon=True).start()

    def wait(self) -> list[str]:
        """Wait while another owner of the run lives, reading the manifest repeatedly; return the run's states."""
        found, looks = self._read(), 0
        if found is None or self._abandoned(found):
            return found.states if found else []
        line = f"another worker has this run ({printable(found.owner)}); waiting until it is done or lost"
        print(line, file=sys.stderr, flush=True)
        while looks < LOOKS and not self._abandoned(found):
            stop_if_asked()
            self._sleep(SECONDS_BETWEEN_LOOKS)
            before, found = self._etag, self._read()
            if found is None:
                again = "run the same command again, after `dvc pull --run-cache`"
                raise TakenOver(f"another worker finished this run ({self._place}); {again}")
            looks = looks + 1 if self._etag == before else 0
        return found.states

    def write(self, states: list[str]) -> None:
        """Write the manifest with these states, then delete every other object of the run. Raises TakenOver.

        The objects are listed before the write, so that none of them can belong to a later owner.
        """
        with self._lock:
            others = set(self.bucket.list(f"{self.folder}/")) - {self._key}
            self._put(states)
        for key in others - {f"{self.folder}/{state}" for state in states}:
            self.bucket.delete(key)

    def beat(self) -> None:
        """Write a sign of life; set `lost` if another worker has the run. Raises StorageError."""
        try:
            with self._lock:
                if not self._released.is_set():
                    self._put(self.manifest.states)
        except TakenOver as error:
            self.lost = error

    def release(self) -> None:
        """Delete the finished run's states and manifest, unless a keeper deletes them. Raises TakenOver."""
        self._released.set()
        keep = self.manifest.keeper is not None
        self.write(self.manifest.states if keep else [])
        found = None if keep else self.bucket.get_json(self._key)
        if found is not None and found[1] == self._etag:  # no worker has started the run again since
            self.bucket.delete(self._key)

    def _live(self) -> None:
        """Body of the thread: write a sign of life every 30 s, until the run is released or another worker has it."""
        while self.lost is None and not self._released.wait(SECONDS_BETWEEN_BEATS):
            with suppress(StorageError):  # the mirror's thread reports outages
                self.beat()

    def _abandoned(self, found: Manifest) -> bool:
        """Whether a run need not be waited for: its owner is of our flow run, or an ended process of this machine."""
        ended = found.machine == self.manifest.machine and not psutil.pid_exists(found.pid)
        return ended or (found.keeper is not None and found.keeper == self.manifest.keeper)

    def _put(self, states: list[str]) -> None:
        """Write the manifest if it is unchanged since we last saw it, else raise TakenOver. Needs the lock held."""
        new = self.manifest.model_copy(update={"beat": self.manifest.beat + 1, "states": states})
        try:
            self._etag = self.bucket.put_json(
                self._key, new.model_dump(), if_match=self._etag, if_absent=self._etag is None
            )
        except Lost:
            found, etag = self.bucket.get_json(self._key) or (None, None)
            if not found or found.get("owner") != new.owner:
                what = f"took over this run ({found.get('owner')})" if found else "finished this run"
                left = f"this one ({new.owner}) stops and leaves {self._place} as it is"
                raise TakenOver(f"another worker {what}; {left}") from None
            if found != new.model_dump():  # an earlier write's answer was lost; if equal, this one's
                etag = self.bucket.put_json(self._key, new.model_dump(), if_match=etag)
            self._etag = etag
        self.manifest = new

    def _read(self) -> Manifest | None:
        """Read the manifest, and keep its etag as the condition of the next write; None if there is none."""
        found = self.bucket.get_json(self._key)
        self._etag = None if found is None else found[1]
        try:
            return None if found is None else Manifest.model_validate(found[0])
        except ValidationError:
            problem = "does not list training states; delete it to start the run afresh"
            raise Damaged(f"{self._place}/manifest.json {problem}") from None


def _machine() -> str:
    """Identify the space of process ids that this process is in: machines and containers may share a host name."""
    found = [HOST]
    with suppress(OSError):  # only Linux has them
        found += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(found)


def forget(bucket: Bucket, folder: str, keeper: str) -> None:
    """Delete the states of all runs under `folder` (such as "states/train") whose manifest names this `keeper`.

    Raises StorageError if S3 does not answer.
    """
    for manifest in [key for key in bucket.list(f"{folder}/") if key.endswith("/manifest.json")]:
        found = bucket.get_json(manifest)
        if found is not None and found[0].get("keeper") == keeper:
            for key in list(bucket.list(manifest.removesuffix("manifest.json"))):
                bucket.delete(key)
