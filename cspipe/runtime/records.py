"""Lineage: facts that a file contains about its origin, and records of the run that made it, which it must not contain.

A record is a JSON file named by the sha256 of the file's bytes, on this machine and, with CSPIPE_S3, in the bucket.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from numpy.lib import format as npy

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file

FOLDER = Path(".cspipe/lineage")
RECORDED = ("models/", "samples/", "metrics/")
KINDS = (".safetensors", ".npy", ".json")
KIND_BY_FACT = {
    "samples_sha256": "metrics", "variant": "samples", "main_sha256": "net C", "data_sha256": "main model"
}  # fmt: skip
LOCAL = LocalFileSystem()
Facts = Mapping[str, Any]


def keep_records(run: Facts) -> None:
    """Write a record for each file that a finished stage of the current folder wrote; `run` is from `RunLog.facts`.

    A file that has a record keeps it: the run that made these bytes first is their origin. A stage's results are good
    without a record, so a failure here is only a warning.
    """
    try:
        paths = {sha256_file(path): path for path in _written(run["stage"])}
        records = {key: {"file": str(path), **run, "facts": read_facts(str(path))} for key, path in paths.items()}
        for sha256, record in records.items():
            path = FOLDER / f"{sha256}.json"
            if not path.exists():
                with whole_file(path) as beside:
                    beside.write_text(json.dumps(record, indent=2) + "\n")
        if url := os.environ.get("CSPIPE_S3"):
            from cspipe.runtime.storage import Bucket  # boto3 takes a second to import
            from cspipe.runtime.storage_errors import Lost

            bucket = Bucket.from_url(url)
            for sha256, record in records.items():
                with suppress(Lost):  # the bucket has a record already
                    bucket.put_json(f"lineage/{sha256}.json", record, if_absent=True)
    except (OSError, UserError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"warning: {run['stage']}: no complete record of its lineage: {why}", file=sys.stderr)


def find_here(sha256: str, root: Path) -> dict[str, Any] | None:
    """Read the record that this machine has of a file, by its hash; None if it has none, or a damaged one."""
    with suppress(OSError, ValueError):
        return dict(json.loads((root / FOLDER / f"{sha256}.json").read_text()))
    return None


def _written(stage: str) -> Iterator[Path]:
    """Iterate over the models, samples and metrics that dvc.yaml lists for a stage: "train", "sample@cs-100", ..."""
    name, _, cell = stage.partition("@")
    entry = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]
    entry = entry.get("do", entry)
    listed = [*entry.get("outs", []), *entry.get("metrics", [])]
    paths = [next(iter(each)) if isinstance(each, dict) else each for each in listed]
    for path in (Path(each.replace("${key}", cell)) for each in paths if each.startswith(RECORDED)):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in files if file.is_file() and file.suffix in KINDS)


def read_facts(path: str, fs: AbstractFileSystem = LOCAL) -> Facts:
    """Read the parameters, seeds, hashes and code that a model, samples or metrics contain; empty for other files.

    path: in `fs`, a disk or S3; only the head of a large file is read, and its name does not matter. Raises UserError
    if a model's size is not what its header says, or if samples.json beside samples gives another number of images.
    """
    with fs.open(path) as file:
        start = file.read(16)
        file.seek(0)
        if start.startswith(npy.MAGIC_PREFIX):
            return _beside(path, fs, file)
        try:
            if start[8:9] == b"{":  # safetensors: the header's length, then the header
                length = min(int.from_bytes(file.read(8), "little"), fs.size(path))
                header = json.loads(file.read(length))
                tree = json.loads(header.pop("__metadata__", {}).get("cspipe", "{}"))
                expected = 8 + length + max(entry["data_offsets"][1] for entry in header.values())
                if fs.size(path) != expected:
                    raise UserError(f"{path}: damaged: it has not the {expected} bytes that its header says")
            else:
                tree = json.load(file) if start[:1] == b"{" else {}
            facts: Facts = tree["provenance"][0] if "provenance" in tree else tree
            return facts if kind_of(facts) else {}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}


def kind_of(facts: Facts) -> str:
    """Kind of the file that has these facts, such as "metrics"; "" if it is none of this project's."""
    return next((kind for key, kind in KIND_BY_FACT.items() if key in facts), "")


def _beside(path: str, fs: AbstractFileSystem, file: Any) -> Facts:
    """Read the facts of an array of samples from samples.json beside it."""
    beside = f"{path.rpartition('/')[0] or '.'}/samples.json"
    facts = read_facts(beside, fs) if fs.exists(beside) else {}
    npy.read_magic(file)
    shape = npy.read_array_header_1_0(file)[0]
    if facts and facts.get("images") != shape[0]:
        raise UserError(f"{beside}: describes {facts.get('images')} images, but {path} has {shape[0]}")
    return facts
