"""Training state on disk, and mirrored in S3: written beside, fsynced, renamed; found by running the same command."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, sync

if TYPE_CHECKING:
    from cspipe.runtime.mirror import Mirror

STATES_KEPT = 2
"""The newest, and the one to fall back on if that is damaged; here and in S3."""
SECONDS_FOR_THE_END = 2.0
Found = tuple[int, dict[str, Any]]
"""(images seen, state)"""


class Checkpoints:
    """States of one run in `root/<key>`, files `<images seen>-<sha256 of the content>.pt`.

    The digest in the name tells a whole file from a truncated or altered one; the key inside tells it from another
    run's. A file that fails either test is named on stderr and passed over for the one before. With a mirror the states
    are in S3 too, and a run belongs to whoever called `load` last: the methods of the others raise TakenOver.
    """

    def __init__(self, root: Path, key: str, mirror: Mirror | None = None) -> None:
        self.folder, self.key, self.mirror = root / key, key, mirror

    def save(self, seen: int, state: dict[str, Any]) -> Path:
        """Write `state` (tensors, numbers, strings, lists, dicts) as the newest, then drop all but the last two.

        The mirror sends it while training goes on.
        """
        if self.mirror is not None:
            self.mirror.ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / ".partial"
        try:
            with beside.open("wb") as file:
                torch.save({"key": self.key, "seen": seen, "state": state}, file)
        except (OSError, RuntimeError) as error:
            beside.unlink(missing_ok=True)  # of no use, and the disk may be full
            # torch turns the system's error into one of its own, which says nothing of a full disk
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        # The name carries the digest, so it is known only now; the content is on the disk before the name is.
        path = self.folder / f"{seen:012d}-{sha256_file(beside)[:16]}.pt"
        sync(beside)
        beside.replace(path)
        sync(self.folder)
        if self.mirror is not None:
            self.mirror.push(path)
        for old in sorted(self.folder.glob("*.pt"))[:-STATES_KEPT]:
            if self.mirror is None or not self.mirror.needs(old):
                old.unlink()
        return path

    def flush(self, seconds: float) -> None:
        """Wait for the mirror, for so long at most, and tell if it is still behind."""
        if self.mirror is not None and not self.mirror.flush(seconds):
            newest = self.newest()
            print(f"{newest}: not in S3 after {seconds:.0f} s; another machine would start before it", file=sys.stderr)

    def load(self, device: torch.device) -> Found | None:
        """(images seen, state) of the newest usable state here or in S3, tensors on the device; None if there is none.

        With a mirror it makes the run ours. Raises StorageError if S3 cannot be reached, TakenOver if we lost a race.
        """
        remote: dict[str, str] = {}
        if self.mirror is not None:
            self.mirror.lease.claim()
            remote = {Path(state).name: state for state in self.mirror.lease.manifest.states}
        here = {path.name for path in self.folder.glob("*.pt")}
        for name in sorted(here | remote.keys(), reverse=True):
            path = self.folder / name
            found = self._read(path, device) if name in here else None
            if found is None and name in remote:
                found = self._fetch(remote[name], path, device)
            if found is not None:
                if self.mirror is not None and name not in remote:
                    self.mirror.push(path)
                return found
        return None

    def _fetch(self, state: str, path: Path, device: torch.device) -> Found | None:
        """What is in a state in S3; one that is of no use is named, and S3 forgets it with the next manifest."""
        from cspipe.runtime.storage_errors import Damaged, Missing  # boto3 is for a mirror alone

        assert self.mirror is not None
        lease, found = self.mirror.lease, None
        try:
            lease.bucket.get_file(f"{lease.folder}/{state}", path)
            found = self._read(path, device)
        except (Missing, Damaged) as error:
            print(f"{error}; the state before it is, if there is one", file=sys.stderr)
        if found is None:
            lease.manifest.states.remove(state)
        return found

    def _read(self, path: Path, device: torch.device) -> Found | None:
        """What is in a file; one that is of no use is named and removed. Raises UserError if it cannot be read."""
        try:
            if sha256_file(path)[:16] != path.stem.partition("-")[2]:
                raise ValueError("truncated or altered: its content does not match the digest in its name")
            stored = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(stored, dict) or stored.get("key") != self.key:
                raise ValueError("the state of another run")
            return int(stored["seen"]), stored["state"]
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError) as error:  # of the disk or the device, which says nothing of what is in the file
            problem = f"{path}: cannot be read ({str(error).partition(chr(10))[0]})"
            raise UserError(f"{problem}; put that right, or remove the file to go on from the one before") from None
        except (ValueError, EOFError, pickle.UnpicklingError) as error:
            print(f"{path}: removed, not used ({error}); the state before it is, if there is one", file=sys.stderr)
            path.unlink()
            return None

    def newest(self) -> Path | None:
        """The newest state file, to name in messages."""
        return max(self.folder.glob("*.pt"), default=None)

    def remove(self) -> None:
        """Forget the run, once its result is safe elsewhere. Raises TakenOver if it is no longer ours."""
        if self.mirror is not None:
            from cspipe.runtime.storage_errors import StorageError

            try:
                if not self.mirror.flush(SECONDS_FOR_THE_END):  # its thread may yet change the manifest
                    raise StorageError("S3 has not taken the last state")
                self.mirror.lease.release()
            except StorageError as error:
                print(f"{error}; the states of this finished run stay in S3", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
