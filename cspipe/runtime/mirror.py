"""Training states in S3, sent while training goes on, and a manifest that says whose run it is.

Under `states/<stage>/<key>/`: `<owner>/<file>` for each state, and `manifest.json` {owner, keeper, beat, states},
written last and only if it is as its owner left it. The owner writes it every 30 s, state or not, as a sign of life.
Whoever wants the run waits while it lives, and takes it over after two minutes without a sign; at once if it is the
same flow run again, or the owner was a process of this machine that has ended. An owner that only hung finds that at
its next sign of life and stops, with nothing of the later one's touched: their objects have different names.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import psutil

from cspipe.runtime.ends import End
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import stop_if_asked
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Damaged, Lost, Missing, StorageError

KEPT = 2
"""States kept in S3: the newest, and the one to fall back on if that is damaged."""
SECONDS_BETWEEN_WARNINGS, SECONDS_BETWEEN_BEATS, SECONDS_BETWEEN_TRIES = 60.0, 30.0, 2.0
SECONDS_BETWEEN_LOOKS, LOOKS = 10.0, 12
"""An owner whose manifest is the same at 12 looks in a row is lost. Looks, not clocks: no outage makes it old."""
NAME = re.compile(r"[\w.-]+/\d{12}-[0-9a-f]{16}\.pt")
OWNER = re.compile(r"(?P<machine>.+)-(?P<pid>\d+)-[0-9a-f]{8}")


@dataclass(frozen=True)
class RemoteState:
    """A state in S3; `name` is `<owner>/<file>`, `size` in bytes."""

    name: str
    seen: int
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """Name of the file that it was and will be on a disk."""
        return PurePosixPath(self.name).name


class TakenOver(UserError):
    """The run belongs to another worker now."""

    end = End.TAKEN_OVER


class Mirror:
    """The states of one run under `folder` of a bucket, with a thread that sends the newest.

    `keeper` is who deletes them when the run's result is safe: a flow run, after its push; None: `remove`.
    """

    def __init__(self, bucket: Bucket, folder: str, keeper: str | None = None) -> None:
        self.bucket, self.folder, self.keeper = bucket, folder, keeper
        self.owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.states: list[RemoteState] = []
        self._etag: str | None = None
        self._keeper_found: str | None = None
        self._beat = 0
        self._manifest_lock = threading.RLock()
        self._finished = threading.Event()
        self._waiting: Path | None = None
        self._sending: Path | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._warned = -SECONDS_BETWEEN_WARNINGS

    def claim(self) -> list[RemoteState]:
        """Make the run ours and return its states, the newest first; wait, with one line, while its owner lives.

        Raises TakenOver if the owner finished it meanwhile, Preempted at SIGTERM, StorageError if S3 is unreachable.
        """
        while True:
            self._wait_for_owner()
            try:
                self._write(self.states)
            except TakenOver:  # its owner has given a sign of life, or someone else was quicker
                continue
            threading.Thread(target=self._live, name="heart", daemon=True).start()
            return self.states[::-1]

    def fetch(self, state: RemoteState, path: Path) -> None:
        """Download a state. Raises Damaged or Missing after taking it out of the list, StorageError otherwise."""
        try:
            self.bucket.get_file(f"{self.folder}/{state.name}", path, state.sha256)
        except (Damaged, Missing):
            self.drop(state)
            raise

    def drop(self, state: RemoteState) -> None:
        """Take a state that is of no use out of the list; S3 forgets it with the next manifest."""
        self.states = [other for other in self.states if other != state]

    def push(self, path: Path) -> None:
        """Send a state in the background, in place of one that still waits. Raises what `ask` raises."""
        self.ask()
        with self._changed:
            self._waiting = path
            self._changed.notify_all()
        if self._thread is None:
            self.bucket.watch(self._warn)
            # A daemon: the process can end while S3 does not answer.
            self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
            self._thread.start()

    def ask(self) -> None:
        """Raise TakenOver if the run was found to belong to someone else, or what else ended the sending."""
        if self._error is not None:
            raise self._error

    def needs(self, path: Path) -> bool:
        """Whether the file is still to be sent."""
        with self._changed:
            return path in (self._waiting, self._sending)

    def flush(self, seconds: float) -> bool:
        """Wait until everything is sent, for so long at most; returns whether it is. Raises what `ask` raises."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._error is not None or (self._waiting is None and self._sending is None), seconds
            )
        self.ask()
        return done

    def remove(self) -> None:
        """Delete the finished run's states and manifest, unless that is for the keeper to do.

        Raises TakenOver if it is no longer ours, StorageError if S3 does not answer.
        """
        if not self.flush(SECONDS_BETWEEN_TRIES):  # the thread is still at it, and may yet change the manifest
            raise StorageError(f"{self._place}: S3 has not taken the last state")
        with self._manifest_lock:
            self._finished.set()
            self._write([] if self.keeper is None else self.states)
        found = self.bucket.get_json(self._manifest) if self.keeper is None else None
        if found is not None and found[1] == self._etag:  # nobody has started the run again since
            self.bucket.delete(self._manifest)

    @property
    def _manifest(self) -> str:
        return f"{self.folder}/manifest.json"

    def _may_take(self, owner: str) -> bool:
        """Whether the run need not be waited for: another attempt of our flow run, or a process here that ended."""
        found = OWNER.fullmatch(owner)
        ended = found and found["machine"] == _machine() and not psutil.pid_exists(int(found["pid"]))
        return bool(ended) or (self.keeper is not None and self.keeper == self._keeper_found)

    def _wait_for_owner(self) -> None:
        """Read the manifest, again and again while the run belongs to someone who lives."""
        owner, looks = self._read(), 0
        if owner is None or self._may_take(owner):
            return
        print(f"another worker has this run ({owner}); waiting until it is done or lost", file=sys.stderr, flush=True)
        while looks < LOOKS:
            stop_if_asked()
            time.sleep(SECONDS_BETWEEN_LOOKS)
            before, owner = self._etag, self._read()
            if owner is None:
                again = "run the same command again, after `dvc pull --run-cache`"
                raise TakenOver(f"another worker finished this run ({self._place}); {again}")
            if self._may_take(owner):
                return
            looks = looks + 1 if self._etag == before else 0

    def _live(self) -> None:
        """The other thread: a sign of life every 30 s, until the run is done or someone else's."""
        while not self._finished.wait(SECONDS_BETWEEN_BEATS) and self._error is None:
            try:
                with self._manifest_lock:
                    if not self._finished.is_set():
                        self._put_manifest(self.states)
            except TakenOver as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
            except StorageError:
                pass  # the sending thread tells

    def _work(self) -> None:
        """The thread: send what waits, for ever, until the run is someone else's."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                self._sending, self._waiting = self._waiting, None
            error = self._attempt()
            with self._changed:
                if isinstance(error, StorageError):  # S3 is away: again, or with a newer state if there is one by then
                    self._waiting = self._waiting or self._sending
                else:
                    self._error = error
                self._sending = None
                self._changed.notify_all()
            if self._error is not None:
                return
            if error is not None:
                time.sleep(SECONDS_BETWEEN_TRIES)

    def _attempt(self) -> BaseException | None:
        """Send one state; returns what went wrong, told if it is S3."""
        assert self._sending is not None
        try:
            self._send(self._sending)
        except BaseException as error:  # the training thread raises it, unless it is S3's
            if isinstance(error, StorageError):
                self._warn(error)
            return error
        return None

    def _warn(self, error: StorageError) -> None:
        """Tell once a minute that S3 is away."""
        if time.monotonic() - self._warned >= SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            print(f"{error}; training goes on, its state is kept here and sent later", file=sys.stderr, flush=True)

    def _send(self, path: Path) -> None:
        """Upload a state, then name it in the manifest, then delete what the manifest no longer names."""
        name = f"{self.owner}/{path.name}"
        if all(state.name != name for state in self.states):
            sha256 = self.bucket.put_file(path, f"{self.folder}/{name}")
            state = RemoteState(name, int(path.name.partition("-")[0]), sha256, path.stat().st_size)
            self._write(sorted([*self.states, state], key=lambda state: state.seen)[-KEPT:])

    def _write(self, states: list[RemoteState]) -> None:
        """Change the manifest if it is as we left it, then delete every other object of the run.

        The objects are listed first: none of them can be of someone who takes the run over afterwards.
        """
        with self._manifest_lock:
            others = set(self.bucket.list(f"{self.folder}/")) - {self._manifest}
            self._put_manifest(states)
        for key in others - {f"{self.folder}/{state.name}" for state in states}:
            self.bucket.delete(key)

    def _put_manifest(self, states: list[RemoteState]) -> None:
        """Write the manifest if it is as we left it. Raises TakenOver if it is not. Call it with the lock."""
        self._beat += 1
        rows = [asdict(state) for state in states]
        value = {"owner": self.owner, "keeper": self.keeper, "beat": self._beat, "states": rows}
        try:
            self._etag = self.bucket.put_json(self._manifest, value, if_match=self._etag, if_absent=self._etag is None)
        except Lost:
            found = self.bucket.get_json(self._manifest)
            if found is None or found[0] != value:  # it is ours if S3 took it and its answer was lost
                raise self._taken_over(found) from None
            self._etag = found[1]
        self.states = states

    def _taken_over(self, found: tuple[object, str] | None) -> TakenOver:
        owner = found[0].get("owner") if found is not None and isinstance(found[0], dict) else None
        what = f"another worker took over this run ({owner})" if owner else "another worker finished this run"
        return TakenOver(f"{what}; this one ({self.owner}) stops and leaves everything in {self._place} as it is")

    @property
    def _place(self) -> str:
        return f"{self.bucket.url}/{self.folder}"

    def _read(self) -> str | None:
        """Take etag and states from the manifest; returns its owner, None if there is no manifest."""
        found = self.bucket.get_json(self._manifest)
        if found is None:
            self._etag, self._keeper_found, self.states = None, None, []
            return None
        value, self._etag = found
        try:
            self._keeper_found = value.get("keeper")
            self.states = sorted((RemoteState(**row) for row in value["states"]), key=lambda state: state.seen)
            if all(NAME.fullmatch(state.name) for state in self.states):
                return str(value["owner"])
        except (AttributeError, KeyError, TypeError):
            pass
        raise Damaged(f"{self._place}/manifest.json does not list training states; delete it to start the run afresh")


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", platform.node())


def forget(bucket: Bucket, folder: str, keeper: str) -> None:
    """Delete the states of all runs under `folder` (such as "states/train") that are for `keeper` to delete.

    Raises StorageError if S3 does not answer.
    """
    for manifest in [key for key in bucket.list(f"{folder}/") if key.endswith("/manifest.json")]:
        found = bucket.get_json(manifest)
        if found is not None and found[0].get("keeper") == keeper:
            for key in list(bucket.list(manifest.removesuffix("manifest.json"))):
                bucket.delete(key)
