"""Hand-over of a stage from worker to driver: its entry of dvc.lock and its small files that git keeps, as JSON.

All other outputs are in DVC's remote on S3. Several workers may finish at once: each hands over its own stage alone,
and the driver merges the entries into one dvc.lock.
"""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cspipe.report.collect import first_problem
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.storage import Bucket
from flows.dvc_stage import How
from flows.dvc_steps import MD5
from flows.graph import Node

LOCK = "dvc.lock"
_one_at_a_time = threading.Lock()
"""Lock for dvc.lock in the driver, whose threads read and write it concurrently."""


@dataclass(frozen=True)
class Place:
    """Keys of the bucket through which the worker of a stage passes its result and progress to the run's driver."""

    bucket: Bucket
    run: str
    stage: str

    @property
    def result(self) -> str:
        """Key of the result that the worker hands over."""
        return f"runs/{self.run}/{self.stage}.json"

    @property
    def progress(self) -> str:
        """Key of the worker's latest progress, a Step."""
        return f"runs/{self.run}/{self.stage}.progress.json"


class Result(BaseModel):
    """The result that a worker hands over, as JSON; checked, as anybody with access to the bucket can write another."""

    lock: dict[str, Any]
    """The stage's entry of dvc.lock."""
    files: dict[str, str]
    """Content of the outputs that git keeps, by path relative to the workspace."""
    how: How
    seconds: float


def lock_entries(root: Path) -> dict[str, Any]:
    """Return the entries of `root`/dvc.lock by stage; {} if there is no such file."""
    from dvc.utils.serialize import load_yaml  # DVC is imported where it is used, so that a worker starts fast

    return dict(load_yaml(str(root / LOCK)).get("stages", {})) if (root / LOCK).exists() else {}


def check_entry(entry: Any, where: str) -> None:
    """Raise UserError unless an entry of dvc.lock has DVC's form and the hashes of files in it are hashes.

    DVC makes paths of the hashes, reads and links the files there, and removes those with another content.
    """
    from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCK_FILE_STAGE_SCHEMA(entry)
        files = [*entry.get("deps", ()), *entry.get("outs", ())]
        if all(MD5.fullmatch(str(file.get("md5"))) and "files" not in file for file in files):
            return
        reason = "a hash that is no MD5"
    except Invalid as error:
        reason = str(error)
    raise UserError(f"{where}: no entry of {LOCK} ({reason}); start the run again")


def hand_over(place: Place, root: Path, node: Node, how: str, seconds: float) -> None:
    """Write the stage's entry of dvc.lock and its files that git keeps to the bucket, for the driver."""
    files: list[Path] = []
    for output in (root / name for name in node.files):
        files += sorted(file for file in output.rglob("*") if file.is_file()) if output.is_dir() else [output]
    texts = {str(file.relative_to(root)): file.read_text() for file in files}
    result = {"lock": lock_entries(root)[node.name], "files": texts, "how": how, "seconds": seconds}
    place.bucket.put_json(place.result, result)


def take_over(place: Place, root: Path, node: Node) -> tuple[How, float]:
    """Replace the stage's results in `root` by those that a worker handed over; return (how it was done, seconds).

    As DVC does before a run, the stage's outputs that git keeps are removed first: another training method may make
    fewer curves. Raises UserError if the result is missing or invalid, or has a file outside of these outputs.
    """
    source, found = f"{place.bucket.url}/{place.result}", place.bucket.get_json(place.result)
    if found is None:
        raise UserError(f"{source}: the worker of {place.stage} handed nothing over")
    try:
        result = Result.model_validate(found[0])
    except ValidationError as error:
        raise UserError(f"{source}: {first_problem(error)}; no result of a worker, start the run again") from None
    check_entry(result.lock, source)
    outputs = [(root / name).resolve() for name in node.files]
    inside = [output for output in outputs if output.is_relative_to(root.resolve())]  # no link out of `root`
    for name in result.files:
        if "\0" in name or not any((root / name).resolve().is_relative_to(output) for output in inside):
            raise UserError(f"{source}: {name!r} is no output of {place.stage} that git keeps")
    for output in inside:
        if output.is_dir():
            shutil.rmtree(output)
        else:
            output.unlink(missing_ok=True)
    for name, text in result.files.items():
        with whole_file(root / name) as beside:
            beside.write_text(text)
    merge_lock(root, place.stage, result.lock)
    return result.how, result.seconds


def lock_text(root: Path) -> str:
    """Return the content of dvc.lock, "" if there is no such file; waits for threads of the driver that write it."""
    with _one_at_a_time:
        return (root / LOCK).read_text() if (root / LOCK).exists() else ""


def merge_lock(root: Path, stage: str, entry: dict[str, Any]) -> None:
    """Set one stage's entry of dvc.lock, under DVC's own lock, as a stage in this workspace may be writing it too."""
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    lock = str(root / LOCK)
    with _one_at_a_time, Repo(str(root), _wait_for_lock=True) as repo, repo.lock, modify_yaml(lock) as tree:
        tree.setdefault("schema", "2.0")
        tree.setdefault("stages", {})[stage] = entry
