"""The tree of origins: a file, what made it, and the files that it was made from, as far back as is known here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cspipe.lineage.contents import Contents, read_contents
from cspipe.lineage.history import Commits, History
from cspipe.lineage.records import FOLDER, find_here
from cspipe.lineage.sources import LocalFile, S3Object, open_source
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file

DEPTH = 5
"""Longest chain there is: metrics, samples, module, main model, pictures."""
KIND_OF_INPUT = {"model.safetensors": "model", "samples.npy": "samples", "index.json": "pictures"}


@dataclass(frozen=True)
class Origin:
    """One file of the tree."""

    kind: str
    place: str
    """Where it is, or was when it was made; empty if only its hash is known."""
    sha256: str
    facts: Mapping[str, Any]
    """What it says of how it was made: parameters, seeds, images seen, versions."""
    code: Mapping[str, Commits | None]
    """By stage, the commits that have its code; None if it names code and there are no commits here."""
    record: Mapping[str, Any] | None
    """Who made these bytes first: stage, commit, flow run, host, device, versions, seconds."""
    made_from: tuple[Origin, ...]


def trace(target: str, root: Path) -> Origin:
    """Where a model, samples or metrics file comes from; `target` is a path or an s3:// address.

    `root`: a clone of the project, whose history, records and files are looked at. Raises UserError if the file is
    missing, damaged, of another kind, or says nothing of itself and nobody has a record of it.
    """
    contents = read_contents(open_source(target))
    tracer = _Tracer(root)
    origin = tracer.origin(contents, DEPTH)
    if not origin.facts and origin.record is None:
        looked = "; ".join([*tracer.looked_at(contents), *tracer.trouble])
        raise UserError(f"{target}: nothing is known of it (sha256 {origin.sha256}); looked at {looked}")
    return origin


class _Tracer:
    def __init__(self, root: Path) -> None:
        self.root, self.history = root, History(root)
        self.trouble: list[str] = []
        self._hashes: dict[str, dict[str, Path]] = {}

    def origin(self, contents: Contents, depth: int) -> Origin:
        """The origin of a file that is here, with what it was made from."""
        sha256 = contents.source.sha256
        record = self._record(sha256)
        facts, code, made_from = contents.facts, contents.code, dict(contents.made_from)
        if not facts and contents.kind == "samples":
            told = self._scored_samples(sha256)
            if told is not None:
                made_from = {kind: value for kind, value in told.made_from.items() if value != sha256}
                facts, code = told.facts, told.code
        parents = [self._parent(kind, value, depth - 1) for kind, value in made_from.items()]
        if not made_from and record is not None:
            parents = list(self._recorded_parents(record, depth - 1))
        commits = {stage: self.history.find(ids) for stage, ids in code.items()}
        return Origin(contents.kind, contents.source.name, sha256, facts, commits, record, tuple(parents))

    def looked_at(self, contents: Contents) -> list[str]:
        """Where something about a file was sought."""
        inside = {"safetensors file": "its metadata", "samples": "samples.json beside it and metrics/*.json"}
        places = [inside.get(contents.kind, "its content"), f"records in {self.root / FOLDER}"]
        shared = os.environ.get("CSPIPE_S3")
        return [*places, f"records in {shared.rstrip('/')}/lineage" if shared else "no bucket (CSPIPE_S3 is not set)"]

    def _parent(self, kind: str, sha256: str, depth: int) -> Origin:
        """The origin of a file of which the hash is known, and perhaps more."""
        if "pictures" in kind:
            return Origin(kind, *self._pictures(sha256), {}, None, ())
        path = self._here(kind, sha256)
        if path is not None and depth > 0:
            return self.origin(read_contents(LocalFile(path)), depth)
        record = self._record(sha256)
        parents = tuple(self._recorded_parents(record, depth - 1)) if record is not None and depth > 0 else ()
        place = str(record["file"]) if record is not None else ""
        return Origin(kind, place, sha256, {}, {}, record, parents)

    def _recorded_parents(self, record: Mapping[str, Any], depth: int) -> Iterator[Origin]:
        for name, sha256 in record.get("inputs", {}).items():
            kind = KIND_OF_INPUT.get(Path(name).name)
            if kind is not None:
                parent = self._parent(kind, sha256, depth)
                yield replace(parent, place=parent.place or name)

    def _record(self, sha256: str) -> Mapping[str, Any] | None:
        record = find_here(sha256, self.root)
        shared = os.environ.get("CSPIPE_S3")
        return record if record is not None or not shared else self._record_in_s3(shared, sha256)

    def _record_in_s3(self, shared: str, sha256: str) -> Mapping[str, Any] | None:
        """The bucket's record; after a failure, which `trouble` then tells, it is asked no more."""
        try:
            found = S3Object(f"{shared.rstrip('/')}/lineage/{sha256}.json")
            record = json.loads(found.read(0, found.size)) if not self.trouble and found.exists() else None
        except (UserError, ValueError) as error:
            self.trouble.append(str(error))
            return None
        return record if isinstance(record, dict) else None

    def _here(self, kind: str, sha256: str) -> Path | None:
        """The clone's model or samples with this content."""
        pattern = "samples/*/samples.npy" if kind == "samples" else "models/*/model.safetensors"
        if pattern not in self._hashes:
            self._hashes[pattern] = {sha256_file(path): path for path in self.root.glob(pattern)}
        return self._hashes[pattern].get(sha256)

    def _pictures(self, sha256: str) -> tuple[str, str, dict[str, Any]]:
        """(place, sha256, facts) of prepared pictures, by the hash of a split or of the whole index."""
        path = self.root / "data/prepared/index.json"
        try:
            index = json.loads(path.read_text())
            told = {key: value for key, value in index.items() if isinstance(value, str | int)}
            if sha256_file(path) == sha256:
                return str(path), sha256, told
            split, entry = next(item for item in index["splits"].items() if item[1]["sha256"] == sha256)
            return str(path.parent), sha256, {**told, "split": split, "images": entry["images"]}
        except (OSError, ValueError, LookupError, TypeError, StopIteration):
            return "", sha256, {}

    def _scored_samples(self, sha256: str) -> Contents | None:
        """What a metrics file of the clone says of these samples."""
        for path in sorted(self.root.glob("metrics/*.json")):
            try:
                told = read_contents(LocalFile(path))
            except UserError:
                continue
            if told.made_from.get("samples") == sha256:
                return told
        return None
