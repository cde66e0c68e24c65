"""Training state on disk: written beside, fsynced, renamed; found again by running the same command."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from cspipe.files import sha256_file, sync

KEPT = 2
"""States kept: the newest, and the one to fall back on if that is damaged."""


class Checkpoints:
    """States of one run in `root/<key>`, files `<images seen>-<sha256 of the content>.pt`.

    The digest in the name tells a whole file from a truncated or altered one; the key inside tells it from another
    run's. A file that fails either test is named on stderr and passed over for the one before.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.folder, self.key = root / key, key

    def save(self, seen: int, state: dict[str, Any]) -> Path:
        """Write `state` (tensors, numbers, strings, lists, dicts) as the newest, then drop all but the last two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / ".partial"
        try:
            with beside.open("wb") as file:
                torch.save({"key": self.key, "seen": seen, "state": state}, file)
        except (OSError, RuntimeError) as error:
            beside.unlink()  # of no use, and the disk may be full
            # torch turns the system's error into one of its own, which says nothing of a full disk
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        # The name carries the digest, so it is known only now; the content is on the disk before the name is.
        path = self.folder / f"{seen:012d}-{sha256_file(beside)[:16]}.pt"
        sync(beside)
        beside.replace(path)
        sync(self.folder)
        for old in sorted(self.folder.glob("*.pt"))[:-KEPT]:
            old.unlink()
        return path

    def load(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """(images seen, state) of the newest usable file, tensors on the device; None if there is none."""
        for path in sorted(self.folder.glob("*.pt"), reverse=True):
            try:
                return self._read(path, device)
            except (ValueError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                print(f"{path}: removed, not used ({error}); the state before it is, if there is one", file=sys.stderr)
                path.unlink()
        return None

    def _read(self, path: Path, device: torch.device) -> tuple[int, dict[str, Any]]:
        if sha256_file(path)[:16] != path.stem.partition("-")[2]:
            raise ValueError("truncated or altered: its content does not match the digest in its name")
        stored = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(stored, dict) or stored.get("key") != self.key:
            raise ValueError("the state of another run")
        return int(stored["seen"]), stored["state"]

    def newest(self) -> Path | None:
        """The newest state file, to name in messages."""
        return max(self.folder.glob("*.pt"), default=None)

    def remove(self) -> None:
        """Forget the run, once its result is safe elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
