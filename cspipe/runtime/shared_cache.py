"""Folders that outlive a stage's workspace: DVC's queue runs each experiment in a workspace that it then deletes."""

from __future__ import annotations

import os
from pathlib import Path

SHARED_CACHE = "CSPIPE_SHARED_CACHE"
"""Environment variable with the path of the clone whose folders are shared."""
FOLDERS = (".cspipe/features", ".cspipe/lineage")
"""Folders that are shared; not training states, as a training resumed in another run would record only its time."""
WEIGHTS = "data/weights"
"""Folder of downloads, which git ignores; parameters name files in it."""
CLONE = "clone"
"""Name of the DVC remote that is the cache of a clone."""


def link_shared_cache() -> None:
    """Link folders that the current folder lacks from the clone that CSPIPE_SHARED_CACHE names, if it is set."""
    clone = os.environ.get(SHARED_CACHE)
    if clone and Path(clone).resolve() != Path.cwd():
        link_folders(Path(clone), Path(), *FOLDERS)


def link_folders(clone: Path, root: Path, *folders: str) -> None:
    """Link folders of a clone, created there if missing, and its downloads into `root`, unless `root` has them."""
    for name in (*folders, WEIGHTS):
        here, shared = root / name, clone.resolve() / name
        if name != WEIGHTS:
            shared.mkdir(parents=True, exist_ok=True)
        if shared.is_dir() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(shared)


def share_dvc_cache(clone: Path, root: Path, *, as_remote: bool = False) -> None:
    """Make DVC in `root`, a checkout of a clone, use the clone's cache: as its own, or as a remote named CLONE."""
    from dvc.config import Config  # only the configuration: a Repo takes a third of a second

    cache = as_dvc_writes(Path(Config(str(clone / ".dvc"))["cache"].get("dir") or clone / ".dvc" / "cache"))
    with Config(str(root.resolve() / ".dvc")).edit("local") as local:
        if as_remote:
            local["remote"][CLONE] = {"url": cache}
        else:
            local["cache"] |= {"dir": cache, "type": "reflink,hardlink,symlink,copy"}


def as_dvc_writes(path: Path) -> str:
    """Make a path relative to the current folder: DVC writes only ASCII, and makes it relative to its configuration."""
    return os.path.relpath(path.resolve())
