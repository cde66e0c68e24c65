"""Records of who made a file, found by the file's content: what may not stand in the file itself.

One JSON per file, named by the sha256 of its bytes, on this machine and, with CSPIPE_S3, in the bucket.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspipe.lineage.stage_files import stage_files
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file

FOLDER = Path(".cspipe/lineage")
RECORDED = ("models", "samples", "metrics")
KINDS = (".safetensors", ".npy", ".json")
CODE = "cspipe"
"""Dependencies on code, which the commit tells."""


def keep_records(facts: Mapping[str, Any]) -> None:
    """Record what a finished stage of the current folder wrote; `facts` as `RunLog.facts` gives them.

    A file that has a record keeps it: whoever made these bytes first is their origin. A stage's results are good
    without a record, so whatever fails here is a warning.
    """
    try:
        files = stage_files(Path(), facts["stage"])
        read = [path for dep in files.reads if dep.parts[0] != CODE for path in _inputs(dep)]
        inputs = {str(path): sha256_file(path) for path in read}
        written = [path for out in files.writes if out.parts[0] in RECORDED for path in _files(out)]
        records = {sha256_file(path): {"file": str(path), **facts, "inputs": inputs} for path in written}
        for sha256, record in records.items():
            _keep_here(sha256, record)
        if os.environ.get("CSPIPE_S3"):
            _keep_in_s3(records)
    except (OSError, UserError) as error:
        print(f"warning: {facts['stage']}: no complete record of its lineage: {error}", file=sys.stderr)


def find_here(sha256: str, root: Path) -> dict[str, Any] | None:
    """The record that this machine has of a file's content, or None."""
    try:
        record = json.loads((root / FOLDER / f"{sha256}.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _files(path: Path) -> list[Path]:
    """The models, arrays and JSON files that a path names or holds."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and file.suffix in KINDS]


def _inputs(path: Path) -> list[Path]:
    """Files that stand for a dependency; a prepared folder's index has the hashes of its shards."""
    index = path / "index.json"
    return [index] if index.is_file() else _files(path)


def _keep_here(sha256: str, record: dict[str, Any]) -> None:
    path = FOLDER / f"{sha256}.json"
    if not path.exists():
        with whole_file(path) as beside:
            beside.write_text(json.dumps(record, indent=2) + "\n")


def _keep_in_s3(records: Mapping[str, dict[str, Any]]) -> None:
    """Put the records that the bucket lacks. Raises UserError."""
    from cspipe.runtime.storage import Bucket  # boto3 takes a second to import
    from cspipe.runtime.storage_errors import Lost

    bucket = Bucket.from_url(os.environ["CSPIPE_S3"])
    for sha256, record in records.items():
        try:
            bucket.put_json(f"lineage/{sha256}.json", record, if_absent=True)
        except Lost:
            continue
