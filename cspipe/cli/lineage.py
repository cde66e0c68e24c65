"""Trace where a file comes from: its own metadata, the record of the run that made it, and its parent files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from cspipe.runtime.code_lock import LOCK, VERSION
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.git import output_of
from cspipe.runtime.provenance import code_ids
from cspipe.runtime.records import FOLDER, Facts, find_here, kind_of, read_facts
from cspipe.runtime.registry import ROOT
from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import as_storage_errors
from cspipe.runtime.wording import printable, readable_seconds

PARENTS = {  # facts that are the sha256 of a file's parent, and the kind of that parent
    "model_sha256": "main model", "main_sha256": "main model", "module_sha256": "net C",
    "start_sha256": "main model", "samples_sha256": "samples", "data_sha256": "images",
    "reference_sha256": "reference images",
}  # fmt: skip
SHA256 = re.compile("[0-9a-f]{64}")
MOST = 100
"""Maximum number of files in a tree, with repetitions: records that name each other would make it endless."""
SHOWN = (  # facts in the text; the JSON has all
    "variant", "sampler", "steps", "eta", "correction", "seed", "images", "images_seen", "training", "size",
    "parameters", "train.method", "train.batch", "train.learning_rate", "diffusion.schedule", "diffusion.prediction",
    "compensation", "reference", "extractor", "source", "split", "torch", "samples_device", "device",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """One file of the lineage tree."""

    kind: str
    place: str  # where it is, or was when it was made; "" if unknown
    sha256: str
    facts: Facts
    commits: Mapping[str, str]  # newest commit here with the code of each stage, else the package; "" if none has it
    record: Mapping[str, Any] | None  # of the run that made these bytes first, by `keep_records`
    made_from: tuple[Origin, ...]


def file_of(target: str) -> str:
    """Return the file that tells the origin of a folder with a model or samples; `target` itself if it is no such."""
    files = (Path(target) / name for name in ("model.safetensors", "samples.npy"))
    return next((str(file) for file in files if file.is_file()), target)


def trace(target: str, root: Path) -> Origin:
    """Return the origin of a model, samples or metrics: `target`, a path or s3:// address; `root` is a clone to search.

    Raises UserError if the file is missing or damaged, or has no metadata and no record of it is found.
    """
    try:
        with as_storage_errors("read", target, target, os.environ.get("AWS_ENDPOINT_URL", "Amazon")):
            fs, path = url_to_fs(target)
            facts = read_facts(path, fs)
            with fs.open(path) as file:  # the hash in S3's metadata may be of other bytes
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{target}: cannot be read ({error}); give a model, samples or metrics") from None
    url = os.environ.get("CSPIPE_S3")
    tracer = _Tracer(root, Bucket.from_url(url) if url else None)
    origin = tracer.origin(sha256, "file", target, facts or tracer.scored(sha256))
    if not origin.facts and origin.record is None:
        looked = f"{root / FOLDER} and {url or 'no bucket (CSPIPE_S3 is not set)'}"
        raise UserError(f"{target}: says nothing of its origin; no record of its sha256 {sha256} in {looked}")
    return origin


@dataclass
class _Tracer:
    root: Path
    bucket: Bucket | None
    files: int = 0

    def origin(self, sha256: str, kind: str, place: str = "", facts: Facts | None = None) -> Origin:
        """Return the origin of the file with this hash. Raises ValueError for no sha256 or for more than MOST files."""
        if not SHA256.fullmatch(sha256):  # it becomes a path
            raise ValueError(f"{sha256!r} is no sha256")
        self.files += 1
        if self.files > MOST:
            raise ValueError(f"made from more than {MOST} files")
        record = self.record(sha256)
        if not facts:
            recorded = (record["file"], record.get("facts", {})) if record else ("", {})
            found, facts = self.known.get(sha256, recorded)
            place = place or found
        parents = [(PARENTS[key], value) for key, value in facts.items() if key in PARENTS and value]
        made_from = tuple(self.origin(value, parent) for parent, value in parents if value != sha256)
        return Origin(kind_of(facts) or kind, place, sha256, facts, self.commits(facts), record, made_from)

    def record(self, sha256: str) -> Mapping[str, Any] | None:
        """Return the record of a file on this machine, else in the bucket, which is not asked again after an error."""
        record = find_here(sha256, self.root)
        if record is None and self.bucket is not None:
            try:
                record, *_ = self.bucket.get_json(f"lineage/{sha256}.json") or (None,)
            except UserError as error:
                print(f"warning: no records of other machines: {error}", file=sys.stderr)
                self.bucket = None
        return record

    @cached_property
    def known(self) -> dict[str, tuple[str, Facts]]:
        """Models, samples and images in the clone: (place, facts) by the hash of the file."""
        found: dict[str, tuple[str, Facts]] = {}
        index = self.root / "data/prepared/index.json"
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            tree = json.loads(index.read_text())
            about = {key: value for key, value in tree.items() if isinstance(value, str | int)}
            for split, entry in tree["splits"].items():
                found[entry["sha256"]] = str(index.parent), {**about, "split": split, "images": entry["images"]}
        for pattern in ("models/**/model.safetensors", "data/weights/**/model.safetensors", "samples/*/samples.npy"):
            found |= {sha256_file(path): (str(path), read_facts(str(path))) for path in self.root.glob(pattern)}
        return found

    def scored(self, sha256: str) -> Facts:
        """Return the facts about samples from a metrics file in the clone that scores them; empty if there is none."""
        metrics = (read_facts(str(path)) for path in self.root.glob("metrics/*.json"))
        facts = next((found for found in metrics if found.get("samples_sha256") == sha256), {})
        told = {key: value for key, value in facts.items() if key not in ("samples_sha256", "reference_sha256")}
        if "samples_device" in told:
            told["device"] = told.pop("samples_device")
        return told

    def commits(self, facts: Facts) -> dict[str, str]:
        """Return, by stage, the newest commit on any branch with the object ids of its code, else `_package`."""
        code = facts.get("code", {})
        if not all(isinstance(ids, dict) for ids in code.values()):
            code = {"compensate" if "main_sha256" in facts else "train": code}
        commits = output_of(self.root, "rev-list", "HEAD", "--branches", "--tags", "--remotes").splitlines()
        newest = {}
        for stage, ids in code.items():
            asked = "".join(f"{commit}:{path}\n" for commit in commits for path in ids)
            found = output_of(self.root, "cat-file", "--batch-check=%(objectname)", asked=asked).splitlines()
            rows = (found[start : start + len(ids)] for start in range(0, len(found), len(ids) or 1))
            same = (all(map(str.startswith, row, ids.values())) for row in rows)
            found = [commit for commit, has in zip(commits, same, strict=False) if has]
            newest[stage] = found[0] if found else self._package(ids)
        return newest

    def _package(self, ids: Mapping[str, str]) -> str:
        """Return "cspipe VERSION" in a project of `cspipe init`, if the installed package has this code; else ""."""
        known = {str(path.relative_to(ROOT)) for path in ROOT.glob("cspipe/**/*")}
        installed = ids and known.issuperset(ids) and code_ids(*ids) == ids and (self.root / LOCK).exists()
        return f"cspipe {VERSION}" if installed else ""


def text(origin: Origin) -> str:
    """Format a lineage tree: some lines per file, its parents indented below it, repeated files in one line."""
    return "\n".join(map(printable, _lines(origin, set())))


def _lines(origin: Origin, seen: set[str]) -> Iterator[str]:
    place = f" {origin.place}" if origin.place else ""
    again = ", as above" if origin.sha256 in seen else ""
    yield f"{origin.kind}{place} (sha256 {origin.sha256[:12]}{again})"
    if again:
        return
    seen.add(origin.sha256)
    if facts := ", ".join(_facts(origin.facts)):
        yield f"  {facts}"
    for commit in dict.fromkeys(origin.commits.values()):
        stages = ", ".join(stage for stage, found in origin.commits.items() if found == commit)
        place = commit if commit.startswith("cspipe ") else f"commit {commit[:12]}" if commit else "in no commit here"
        yield f"  code of {stages}: {place}"
    if origin.record is not None:
        yield from (f"  {line}" for line in _record(origin.record))
    elif not origin.facts:
        yield "  not in this clone, and no record of it"
    for parent in origin.made_from:
        yield from (f"    {line}" for line in _lines(parent, seen))


def _facts(facts: Facts) -> Iterator[str]:
    for key in SHOWN:
        section, _, name = key.rpartition(".")
        value = facts.get(section, {}).get(name) if section else facts.get(name)
        if isinstance(value, Mapping):
            value = " ".join(f"{name} {item}" for name, item in value.items() if item is not None)
        if value is not None:
            yield f"{name.replace('_', ' ')} {value}"


def _record(record: Mapping[str, Any]) -> Iterator[str]:
    flow = f", flow run {record['flow_run']}" if record["flow_run"] else ""
    started, took = record["started"].replace("T", " ")[:16], readable_seconds(record["seconds"])
    yield f"made by {record['stage']}, {started} UTC in {took}{flow}"
    changed = f" with changes to {', '.join(record['changed'][:4])}" if record["changed"] else ""
    yield f"at commit {record['commit'][:12]}{changed}, params.yaml {record['params_sha256'][:12]}"
    versions = f"Python {record['python']}, torch {record['torch']}, CUDA {record['cuda'] or 'none'}"
    yield f"on {record['host']}: {record['device']}, {versions}"
