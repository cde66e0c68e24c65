"""Upload of training states to S3 while training goes on, as `states/<stage>/<key>/<owner>/<file>`."""

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
"""Client configuration of uploads: an outage is reported within seconds, and the thread retries for ever."""


class Mirror:
    """Uploads the newest state of one run to `folder` of a bucket, in a thread; `lease` says who owns the run."""

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
        """Upload a state in the background, in place of one that still waits. Raises what `ask` raises."""
        self.ask()
        with self._changed:
            self._waiting = path
            self._changed.notify_all()
        if not self._started:  # a daemon: the process can end while S3 does not answer
            self._started = True
            threading.Thread(target=self._work, name="mirror", daemon=True).start()

    def ask(self) -> None:
        """Raise TakenOver if another worker has the run, or the error that ended the uploads; otherwise do nothing."""
        error = self.lease.lost or self._error
        if error is not None:
            raise error

    def needs(self, path: Path) -> bool:
        """Whether the file is still to be uploaded."""
        with self._changed:
            return path in (self._waiting, self._sending)

    def flush(self, seconds: float) -> bool:
        """Wait at most `seconds` until all is uploaded; return whether it is. Raises what `ask` raises."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._error or not (self._waiting or self._sending), seconds)
        self.ask()
        return bool(done)

    def _work(self) -> None:
        """Body of the thread: upload what waits, until an error other than StorageError, such as TakenOver."""
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                self._sending, self._waiting = self._waiting, None
            again = None
            try:
                self._send(self._sending)
            except StorageError as error:  # S3 does not answer, or refuses
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
        """Upload a state, then list it in the manifest; the write deletes all but the last STATES_KEPT."""
        assert path is not None
        name, states = f"{self.lease.manifest.owner}/{path.name}", self.lease.manifest.states
        if name not in states:
            self.bucket.put_file(path, f"{self.lease.folder}/{name}")
            self.lease.write(sorted([*states, name], key=lambda each: Path(each).name)[-STATES_KEPT:])

    def _warn(self, error: StorageError) -> None:
        """Report the error at most once a minute."""
        if time.monotonic() - self._warned >= SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            print(f"{error}; training goes on, its state is kept here and sent later", file=sys.stderr, flush=True)
