"""A registered model's files, fetched from S3 into an empty cache and compared with dvc.lock hash by hash."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.utils.serialize import load_yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.models import FILE, read_config
from cspipe.runtime.storage import Bucket
from flows.command import run_command
from flows.dvc_stage import DVC, PATIENCE, outage
from flows.failures import Transient, reason
from flows.handover import LOCK
from flows.workspace import Workspace

CACHE = Path(".cspipe/cache")
PARAMS = "params.yaml"
Lock = dict[str, Any]


@dataclass(frozen=True)
class Out:
    """An output in DVC's cache."""

    path: str
    md5: str
    """Of its content; a folder's ends with .dir."""


def isolate(workspace: Workspace) -> None:
    """Give the workspace a cache, features and parts of its own: what this machine kept must not stand in for S3."""
    for name in ("states", "features"):
        folder = workspace.root / ".cspipe" / name
        folder.unlink()
        folder.mkdir()
    config = workspace.root / ".dvc" / "config.local"
    lines = config.read_text().splitlines()
    cache = f"    dir = {workspace.root / CACHE}"
    config.write_text("\n".join(cache if line.startswith("    dir = ") else line for line in lines) + "\n")


def read_lock(root: Path) -> Lock:
    """The stages of dvc.lock. Raises UserError if there are none."""
    stages = load_yaml(str(root / LOCK)).get("stages") if (root / LOCK).is_file() else None
    if not stages:
        raise UserError(f"{LOCK} at this revision records no stage; tag the commit that has the results")
    return dict(stages)


def variants_of(root: Path, lock: Lock, paths: Sequence[str]) -> list[str]:
    """Variants of params.yaml whose samples were drawn from one of the models; dvc.lock keeps those of old ones too.

    Raises UserError if there are none.
    """
    read = {name: lock.get(f"sample@{name}", {}).get("deps", ()) for name in load_yaml(str(root / PARAMS))["variants"]}
    drawn = [name for name, deps in read.items() if any(_within(path, dep["path"]) for path in paths for dep in deps)]
    if not drawn:
        raise UserError(f"{LOCK} at this revision has samples of no variant in {PARAMS}; tag the commit that has them")
    return drawn


def needed(lock: Lock, variants: Sequence[str]) -> list[Out]:
    """Outputs that sampling and scoring the variants read, and their recorded samples."""
    outs = [Out(out["path"], out["md5"]) for stage in lock.values() for out in stage.get("outs", ())]
    stages = [name for variant in variants for name in (f"sample@{variant}", f"evaluate@{variant}")]
    absent = [name for name in stages if name not in lock]
    if absent:
        raise UserError(
            f"{LOCK} at this revision has no entry of {absent[0]}; tag a commit whose pipeline has finished"
        )
    read = [dep["path"] for name in stages for dep in lock[name]["deps"]]
    return [out for out in outs if any(_within(out.path, path) for path in read)]


def restore(workspace: Workspace, outs: Sequence[Out], tell: Callable[[str], None]) -> None:
    """Pull outputs and compare every file with its md5, and each model with its configuration.

    Raises UserError that names the first file that is missing or changed in S3, Transient while S3 is away.
    """
    bucket = workspace.bucket
    assert bucket is not None
    for pause in (*PATIENCE, None):
        ended = run_command([*DVC, "pull", *(out.path for out in outs)], workspace.root, tell=tell, hours=24)
        away = outage(bucket, ended.lines) if ended.status else None
        if away is None:
            break
        if pause is None:
            raise Transient(away)
        tell(f"{away}; trying again in {pause} s")
        time.sleep(pause)
    if ended.status:  # DVC then also leaves out folders that are whole, so its cache does not tell what is missing
        _find_missing(bucket, outs)
        raise UserError(f"dvc pull: {reason(ended.lines)}")
    for out in outs:
        _verify(workspace.root, out, f"{bucket.url}/dvc")
        _verify_model(workspace.root / out.path)


def release(root: Path, path: str) -> Path:
    """Move an output out of the pipeline's way, so that a stage can make it again; returns its new place."""
    kept = root / ".cspipe" / "recorded" / path
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / path, kept)
    return kept


def _find_missing(bucket: Bucket, outs: Sequence[Out]) -> None:
    """Raise UserError for the first object that the bucket has not."""
    for out in outs:
        _must_be_there(bucket, out.path, out.md5)
        if out.md5.endswith(".dir"):
            found = bucket.get_json(_key(out.md5))
            for entry in found[0] if found else ():
                _must_be_there(bucket, f"{out.path}/{entry['relpath']}", entry["md5"])


def _must_be_there(bucket: Bucket, name: str, md5: str) -> None:
    if _key(md5) not in bucket.list(_key(md5)):
        raise UserError(
            f"{name} is missing in {bucket.url}/dvc: md5 {md5} then, nothing now; `dvc push` it from where it is"
        )


def _verify(root: Path, out: Out, remote: str) -> None:
    for name, md5 in _objects(root, out):
        found = _md5(_cached(root, md5))
        if found != md5.removesuffix(".dir"):
            raise UserError(
                f"{name} was changed in {remote}: md5 {md5} then, {found} now; delete it there and `dvc push` it"
            )


def _objects(root: Path, out: Out) -> Iterator[tuple[str, str]]:
    """(name, md5) of an output's objects; a folder's list comes first."""
    yield out.path, out.md5
    if out.md5.endswith(".dir"):
        for entry in json.loads(_cached(root, out.md5).read_text()):
            yield f"{out.path}/{entry['relpath']}", entry["md5"]


def _key(md5: str) -> str:
    return f"dvc/files/md5/{md5[:2]}/{md5[2:]}"


def _cached(root: Path, md5: str) -> Path:
    return root / CACHE / "files" / "md5" / md5[:2] / md5[2:]


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verify_model(folder: Path) -> None:
    """The configuration inside of a safetensors file is that beside it."""
    if (folder / FILE).is_file() and read_config(folder, "train") != json.loads((folder / "config.json").read_text()):
        raise UserError(f"{folder.name}/{FILE}: its own configuration is not that of config.json beside it")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
