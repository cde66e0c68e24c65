"""Restore a registered model's files from S3 into an empty cache, and compare them with dvc.lock hash by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dvc.config import Config
from dvc.utils.serialize import load_yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import DVC_REMOTE, Bucket
from cspipe.runtime.worktree import as_dvc_writes
from flows.command import run_command
from flows.dvc_steps import steps_command
from flows.failures import reason
from flows.handover import LOCK, lock_entries
from flows.workspace import Workspace, shared_bucket

CACHE = Path(".cspipe/cache")
PARAMS = "params.yaml"
ATTEMPTS = 3
"""Number of `dvc pull`s that are tried."""
Lock = dict[str, Any]
"""The entries of dvc.lock by stage."""


def isolate(root: Path) -> None:
    """Give a workspace a cache, states and features of its own, so that the clone's cannot stand in for S3."""
    for name in ("states", "features"):
        folder = root / ".cspipe" / name
        folder.unlink()
        folder.mkdir()
    with Config(str(root / ".dvc")).edit("local") as local:
        local["cache"]["dir"] = as_dvc_writes(root / CACHE)
        local["remote"][DVC_REMOTE]["verify"] = False  # `restore` verifies, and reports both hashes


def read_lock(root: Path) -> Lock:
    """Return the stages of dvc.lock. Raises UserError if it has none."""
    if not (stages := lock_entries(root)):
        raise UserError(f"{LOCK} at this revision records no stage; tag the commit that has the results")
    return stages


def variants_of(root: Path, lock: Lock, paths: Sequence[str]) -> list[str]:
    """Return the variants of params.yaml whose samples were drawn from one of the models in the folders `paths`.

    Older variants, which only dvc.lock still has, are left out. Raises UserError if there are no variants.
    """
    read = {name: lock.get(f"sample@{name}", {}).get("deps", ()) for name in load_yaml(str(root / PARAMS))["variants"]}
    drawn = [name for name, deps in read.items() if any(_within(path, dep["path"]) for path in paths for dep in deps)]
    if not drawn:
        raise UserError(f"{LOCK} at this revision has samples of no variant in {PARAMS}; tag the commit that has them")
    return drawn


def needed(lock: Lock, variants: Sequence[str]) -> dict[str, str]:
    """Return the md5, by path, of the outputs that sampling and scoring the variants read, recorded samples included.

    Raises UserError if one of these stages has not been run.
    """
    stages = [f"{stage}@{variant}" for variant in variants for stage in ("sample", "evaluate")]
    absent = [name for name in stages if name not in lock]
    if absent:
        raise UserError(f"{LOCK} at this revision has no {absent[0]}; tag a commit whose pipeline has finished")
    read = [dep["path"] for name in stages for dep in lock[name]["deps"]]
    outs = {out["path"]: out["md5"] for stage in lock.values() for out in stage.get("outs", ())}
    return {path: md5 for path, md5 in outs.items() if any(_within(path, folder) for folder in read)}


def restore(workspace: Workspace, outs: dict[str, str], log: Callable[[str], None]) -> None:
    """Pull outputs (md5 by path) and compare every file with its md5; wait for S3 while it is away.

    Raises UserError that names the first file that is missing or changed in S3.
    """
    bucket = workspace.bucket
    assert bucket is not None
    for _ in range(ATTEMPTS):
        command = steps_command([["pull", *outs]])  # this command refuses altered lists of files
        ended = run_command(command, workspace.root, tell=log, hours=24)
        if not ended.status:
            break
        shared_bucket(log)
    for name, md5 in _objects(bucket, outs):
        file = workspace.root / CACHE / "files" / "md5" / md5[:2] / md5[2:]
        found = _md5(file) if file.is_file() else None
        if found is None and _key(md5) in bucket.list(_key(md5)):
            continue  # DVC keeps the list of a folder's files only if it has all of them
        if found != md5.removesuffix(".dir"):
            problem, fix = ("is missing", "") if found is None else ("was changed", "delete it there and ")
            raise UserError(f"{name} {problem} in {bucket.url}/dvc: md5 {md5} then, {found} now; {fix}`dvc push` it")
    if ended.status:
        raise UserError(f"dvc pull: {reason(ended.lines)}")


def _objects(bucket: Bucket, outs: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (name, md5) of every object of the outputs; a folder's list of files comes before its files."""
    for path, md5 in outs.items():
        yield path, md5
        listed = bucket.get_json(_key(md5), sealed=False) if md5.endswith(".dir") else None
        for entry in listed[0] if listed else ():
            yield f"{path}/{entry['relpath']}", entry["md5"]


def _key(md5: str) -> str:
    return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
