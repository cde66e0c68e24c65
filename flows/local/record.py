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
"""Everything of a stack: the server's database, the bucket, the keys, the logs, the record."""


@dataclass
class Stack:
    """What was started, in order. Written after each change."""

    home: Path
    mark: str
    api: str = ""
    s3: str = ""
    endpoint: str = ""
    """Of the stack's S3 server, "" if the bucket is elsewhere."""
    gpus: list[str] = field(default_factory=list)
    """As CUDA_VISIBLE_DEVICES names them, a worker each."""
    ready: bool = False
    parts: list[Part] = field(default_factory=list)

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
        """Readable by their owner alone: `access_key`, `secret_key` of S3, made once; `auth`, the server's password.

        Each stack has another: whoever takes the port of one that has ended is told it by what still asks there.
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
        """The log of a part."""
        return self.folder / "logs" / f"{name}.log"

    def add(self, part: Part) -> Part:
        """Record a part that was just started, in place of one of its name."""
        names = [other.name for other in self.parts]
        if part.name in names:
            self.parts[names.index(part.name)] = part
        else:
            self.parts.append(part)
        self.save()
        return part

    def ended(self) -> list[Part]:
        """The parts that no longer run."""
        return [part for part in self.parts if part.process is None]

    def save(self) -> None:
        """Write the record."""
        with whole_file(self.folder / "stack.json") as beside:
            beside.write_text(json.dumps(asdict(self) | {"home": os.fspath(self.home)}, indent=1))


def read(home: Path) -> Stack | None:
    """The stack that was started in a folder and not stopped; it may have died since. None if there is none."""
    file = home / STACK / "stack.json"
    if not file.exists():
        return None
    record = json.loads(file.read_text())
    return Stack(**record | {"home": home, "parts": [Part(**part) for part in record["parts"]]})
