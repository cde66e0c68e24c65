"""Training states on their way to S3, sent while training goes on: `states/<stage>/<key>/<owner>/<file>`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from botocore.config import Config

from cspipe.runtime.checkpoint import STATES_KEPT
from cspipe.runtime.lease import Lease
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import StorageError

SECONDS_BETWEEN_WARNINGS, SECONDS_BETWEEN_TRIES = 60.0, 2.0
BRIEF = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
"""For uploads: an outage is told within seconds, and the thread tries for ever."""


class Mirror:
    """The states of one run under `folder` of a bucket, with a thread that sends the newest; see Lease."""

    def __init__(
        self, bucket: Bucket, folder: str, keeper: str | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.lease = Lease(bucket, folder, keeper, sleep)
        self.bucket = replace(bucket, config=BRIEF)
        self._waiting: Path | None = None
        self._sending: Path | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._started = False
        self._warned = -SECONDS_BETWEEN_WARNINGS

    def push(self, path: Path) -> None:
        """Send a state in the background, in place of one that still waits. Raises what `ask` raises."""
        self.ask()
        with self._changed:
            self._waiting = path
            self._changed.notify_all()
        if not self._started:  # a daemon: the process can end while S3 does not answer
            self._started = True
            threading.Thread(target=self._work, name="mirror", daemon=True).start()

    def ask(self) -> None:
        """Raise TakenOver if the run was found to belong to someone else, or what else ended the sending."""
        error = self.lease.lost or self._error
        if error is not None:
            raise error

    def needs(self, path: Path) -> bool:
        """Whether the file is still to be sent."""
        with self._changed:
            return path in (self._waiting, self._sending)

    def flush(self, seconds: float) -> bool:
        """Wait until everything is sent, for so long at most; returns whether it is. Raises what `ask` raises."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._error or not (self._waiting or self._sending), seconds)
        self.ask()
        return bool(done)

    def _work(self) -> None:
        """The thread: send what waits, for ever, until the run is someone else's."""
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                self._sending, self._waiting = self._waiting, None
            again = None
            try:
                self._send(self._sending)
            except StorageError as error:  # S3 is away
                self._warn(error)
                again = self._sending
            except BaseException as error:  # for the training thread to raise
                self._error = error
            with self._changed:
                self._waiting, self._sending = self._waiting or again, None
                self._changed.notify_all()
            if again is not None:
                time.sleep(SECONDS_BETWEEN_TRIES)

    def _send(self, path: Path | None) -> None:
        """Upload a state, then name it in the manifest, which drops the older ones."""
        assert path is not None
        name, states = f"{self.lease.manifest.owner}/{path.name}", self.lease.manifest.states
        if name not in states:
            self.bucket.put_file(path, f"{self.lease.folder}/{name}")
            self.lease.write(sorted([*states, name], key=lambda each: Path(each).name)[-STATES_KEPT:])

    def _warn(self, error: StorageError) -> None:
        """Tell once a minute that S3 is away."""
        if time.monotonic() - self._warned >= SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            print(f"{error}; training goes on, its state is kept here and sent later", file=sys.stderr, flush=True)
