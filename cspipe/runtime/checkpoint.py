"""Training states (checkpoints) on disk, mirrored in S3; running the same command again resumes from the newest.

Each file is written under a temporary name, fsynced and renamed.
"""

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
"""Number of states kept, on disk and in S3: the newest, and one to fall back on if the newest is damaged."""
SECONDS_FOR_THE_END = 2.0
"""Longest wait for pending uploads before the states of a finished run are deleted."""
Found = tuple[int, dict[str, Any]]
"""(images seen, state) of a loaded checkpoint."""


class Checkpoints:
    """Training states of one run: files `<images seen>-<first 16 digits of the content's sha256>.pt` in `root/<key>`.

    The digest in the name shows whether a file is truncated or altered; the key inside, whether it is of another run.
    A file that fails either check is reported on stderr and skipped for the one before. With a mirror, the states are
    in S3 too, and the run belongs to the process that called `load` last: in others the methods raise TakenOver.
    """

    def __init__(self, root: Path, key: str, mirror: Mirror | None = None) -> None:
        self.folder, self.key, self.mirror = root / key, key, mirror

    def save(self, seen: int, state: dict[str, Any]) -> Path:
        """Write `state` (tensors, numbers, strings, lists, dicts) as the newest, then delete all but the last two.

        The mirror, if there is one, uploads the state while training goes on.
        """
        if self.mirror is not None:
            self.mirror.ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / ".partial"
        try:
            with beside.open("wb") as file:
                torch.save({"key": self.key, "seen": seen, "state": state}, file)
        except (OSError, RuntimeError) as error:
            beside.unlink(missing_ok=True)  # a partial file is useless, and the disk may be full
            # torch wraps the system's error in one of its own, which does not mention a full disk
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        # The name contains the digest, so it is known only now. The content is synced before the file gets its name.
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
        """Wait at most `seconds` for the mirror's uploads, and warn on stderr if some are still pending."""
        if self.mirror is not None and not self.mirror.flush(seconds):
            newest = self.newest()
            print(f"{newest}: not in S3 after {seconds:.0f} s; another machine would start before it", file=sys.stderr)

    def load(self, device: torch.device) -> Found | None:
        """Load (images seen, state) of the newest usable state, on disk or in S3; None if there is none.

        Tensors are on `device`. With a mirror, this process becomes the owner of the run. Raises StorageError if S3
        cannot be reached, TakenOver if another worker has finished the run or taken it over meanwhile.
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
        """Download and read a state from S3; None if it is unusable: it is reported, and the next manifest omits it."""
        from cspipe.runtime.storage_errors import Damaged, Missing  # boto3 is needed only with a mirror

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
        """Read a state file; None if it is unusable: it is reported and removed. Raises UserError if reading fails."""
        try:
            if sha256_file(path)[:16] != path.stem.partition("-")[2]:
                raise ValueError("truncated or altered: its content does not match the digest in its name")
            stored = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(stored, dict) or stored.get("key") != self.key:
                raise ValueError("the state of another run")
            return int(stored["seen"]), stored["state"]
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError) as error:  # of the disk or the device: the file itself may be good
            problem = f"{path}: cannot be read ({str(error).partition(chr(10))[0]})"
            raise UserError(f"{problem}; put that right, or remove the file to go on from the one before") from None
        except (ValueError, EOFError, pickle.UnpicklingError) as error:
            print(f"{path}: removed, not used ({error}); the state before it is, if there is one", file=sys.stderr)
            path.unlink()
            return None

    def newest(self) -> Path | None:
        """Path of the newest state file, for messages; None if there is none."""
        return max(self.folder.glob("*.pt"), default=None)

    def remove(self) -> None:
        """Delete the states of a run whose result is stored. Raises TakenOver if another worker has the run."""
        if self.mirror is not None:
            from cspipe.runtime.storage_errors import StorageError

            try:
                if not self.mirror.flush(SECONDS_FOR_THE_END):  # the mirror's thread may still write the manifest
                    raise StorageError("S3 has not taken the last state")
                self.mirror.lease.release()
            except StorageError as error:
                print(f"{error}; the states of this finished run stay in S3", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
