"""The record of a local stack, .cspipe/stack/stack.json: what was started, and where it is."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cspipe.runtime.files import whole_file
from flows.local.processes import Part

STACK = Path(".cspipe/stack")
"""Folder of a stack in its clone: the server's database, the bucket, the keys, the logs, the record."""


@dataclass
class Stack:
    """A local stack: where it is and which parts were started; saved to its record after each change."""

    home: Path
    mark: str
    """Random value of the variable CSPIPE_STACK in the environment of the stack's processes."""
    api: str = ""
    s3: str = ""
    endpoint: str = ""
    """Address of the stack's own S3 server, "" if the bucket is elsewhere."""
    gpus: list[str] = field(default_factory=list)
    """GPUs, as CUDA_VISIBLE_DEVICES names them; there is a worker for each."""
    ready: bool = False
    """Whether all parts were started."""
    parts: list[Part] = field(default_factory=list)
    """The parts in the order of their first start."""

    @property
    def ui(self) -> str:
        """Address of Prefect's pages."""
        return self.api.removesuffix("/api")

    @property
    def folder(self) -> Path:
        """The folder of everything that the stack writes."""
        return self.home / STACK

    @property
    def keys(self) -> dict[str, str]:
        """Keys of the stack, kept in a file that only its owner can read.

        `access_key` and `secret_key` of S3 are made once. `auth`, the server's password, is new for each stack: clients
        of a stack that has ended still send its password to any program that has taken the port.
        """
        file = self.folder / "keys.json"
        kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if kept.get("stack") != self.mark:
            made = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
            kept = made | kept | {"auth": f"cspipe:{secrets.token_hex(16)}", "stack": self.mark}
            with whole_file(file) as beside:
                beside.touch(mode=0o600)
                beside.write_text(json.dumps(kept))
        return kept

    def log(self, name: str) -> Path:
        """Return the path of a part's log."""
        return self.folder / "logs" / f"{name}.log"

    def add(self, part: Part) -> Part:
        """Record a part that was just started, in place of one with its name; return it."""
        names = [other.name for other in self.parts]
        if part.name in names:
            self.parts[names.index(part.name)] = part
        else:
            self.parts.append(part)
        self.save()
        return part

    def ended(self) -> list[Part]:
        """Return the parts that no longer run."""
        return [part for part in self.parts if part.process is None]

    def save(self) -> None:
        """Write the record of the stack."""
        with whole_file(self.folder / "stack.json") as beside:
            beside.write_text(json.dumps(asdict(self) | {"home": os.fspath(self.home)}, indent=1))


def read(home: Path) -> Stack | None:
    """Return the stack that was started in `home` and not stopped, None if there is none; its parts may have ended."""
    file = home / STACK / "stack.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text())
    return Stack(**record | {"home": home, "parts": [Part(**part) for part in record["parts"]]})
