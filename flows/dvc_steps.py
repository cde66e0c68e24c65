"""Run DVC commands one after the other in one process: each start of DVC takes one to two seconds of CPU time.

`python -m flows.dvc_steps '[["pull", "prepare"], ["repro", "--single-item", "train"]]'`, run by flows/dvc_stage.py in
a workspace. The exit status is that of the first command that fails, and 0 if none does.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from hashlib import md5
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.graph import Node

BEGINS = "== step "
"""Start of the line printed before each command, with its index in the list: the caller sees which one failed."""
PUSH_KEPT = "push-kept"
"""Name of the step that calls push_kept_by_git; all other steps are DVC's commands."""
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
ENTRY = re.compile("runs/[0-9a-f]{2}/[0-9a-f]{64}/[0-9a-f]{64}")
"""Path of an entry of the run cache, relative to a cache or remote."""
ALTERED = "of DVC's cache or remote was altered and is not used; delete it there"


def steps_command(steps: Sequence[Sequence[str]]) -> list[str]:
    """Return the command that runs the steps in a process of its own."""
    return ["python", "-m", "flows.dvc_steps", json.dumps(steps)]


def push_steps(*nodes: Node) -> list[list[str]]:
    """Return the steps that push the results of stages, and their outputs that git keeps: a restore needs both."""
    kept_by_git = [[PUSH_KEPT, node.name] for node in nodes if node.files]
    return [["push", "--run-cache", *(node.name for node in nodes)], *kept_by_git]


def run(steps: Sequence[Sequence[str]]) -> int:
    """Run the steps in the current folder: DVC's commands and PUSH_KEPT. Returns 0, or the first other status."""
    from dvc.cli import main as dvc  # here: importers of the constants above do without DVC
    from dvc.stage.cache import StageCache

    _refuse_altered()
    StageCache.transfer = _transfer
    ours: dict[str, Callable[..., int]] = {PUSH_KEPT: push_kept_by_git}
    for place, (name, *rest) in enumerate(steps):
        print(f"{BEGINS}{place}", flush=True)
        status = ours[name](*rest) if name in ours else dvc(["--wait-for-lock", name, *rest])
        if status:
            return status
    return 0


def _refuse_altered() -> None:
    """Make DVC report and reject objects that were altered in S3; DVC itself drops such a file without a message.

    DVC does not check the list of a folder's files and entries of the run cache, and makes paths of the names and
    hashes in them: with write access to S3 one could make it write, read or remove any file of this machine.
    """
    from dvc.stage.cache import StageCache, _get_cache_hash
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    check, load, load_entry = HashFileDB.check, Tree.load, StageCache._load_cache

    def named(oid: str, read: Callable[[], Any]) -> Any:
        """Return the object that `read` loads; if it is altered, print its name and raise ObjectFormatError."""
        try:
            found = read()
            if isinstance(found, Tree) and not _is_list(found, oid):
                raise ObjectFormatError(f"object {oid} is altered")
            return found
        except ObjectFormatError:
            print(f"cspipe dvc: files/md5/{oid[:2]}/{oid[2:]} {ALTERED}, `dvc push` what it was", flush=True)
            raise

    def entry(cache: Any, key: str, value: str) -> Any:
        """Return an entry of the run cache, None if its content does not match its name."""
        found = load_entry(cache, key, value)
        sound = found is None or all(MD5.fullmatch(str(out.get("md5"))) for out in found.get("outs", ()))
        if found is None or (sound and _get_cache_hash(found) == value):
            return found
        print(f"WARNING: runs/{key[:2]}/{key}/{value} {ALTERED}; the stage runs again", flush=True)
        return None

    def tree(db: Any, info: Any, **names: Any) -> Any:
        """Return the list of a folder's files."""
        return named(info.value, lambda: load(db, info, **names))

    HashFileDB.check = lambda db, oid, *more: named(oid, lambda: check(db, oid, *more))  # type: ignore[method-assign]
    Tree.load, StageCache._load_cache = tree, entry  # type: ignore[assignment, method-assign]


def _transfer(cache: Any, source: Any, target: Any, force: bool = True) -> list[tuple[str, str]]:
    """Copy the entries of the run cache that the target lacks, and raise if a copy fails.

    In place of DVC's function, which copies all entries one by one at every pull and push, and ignores failures.
    """
    from dvc_objects.fs.generic import copy

    def entries(db: Any) -> set[str]:
        """Return paths of entries, relative to a cache or remote; an entry's name is the hash of its content."""
        runs = db.fs.join(db.path, "runs")
        found = db.fs.find(runs) if db.fs.exists(runs) else ()
        names = (db.fs.as_posix(db.fs.relpath(path, db.path)) for path in found)
        return {name for name in names if ENTRY.fullmatch(name)}  # other names could lead out of it

    missing = sorted(entries(source) - entries(target))
    if missing:
        here, there = ([db.fs.join(db.path, name) for name in missing] for db in (source, target))
        copy(source.fs, here, target.fs, there)
    return [(name.split("/")[-2], name.split("/")[-1]) for name in missing]


def _is_list(files: Any, oid: str) -> bool:
    """Whether a list of a folder's files has the hash in its name, and nothing in it leads out of the folder."""
    return md5(files.as_bytes()).hexdigest() == oid.removesuffix(".dir") and all(
        MD5.fullmatch(str(file.value)) and not {"", ".", ".."} & {*path} for path, _, file in files
    )


def push_kept_by_git(name: str) -> int:
    """Push a stage's outputs that git keeps: `dvc push --run-cache` leaves them out, but a restore needs them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            [stage] = repo.stage.collect(name)
            for out in stage.outs:
                if not out.use_cache:
                    out.use_cache = True  # on this object, not in dvc.yaml; the run cache has a copy
                    for objects in out.get_used_objs().values():
                        if failed := repo.cloud.push(objects).failed:
                            print(f"ERROR: {len(failed)} files of {name} were not pushed", flush=True)
                            return 1
    except (DvcException, OSError) as error:
        print(f"ERROR: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
