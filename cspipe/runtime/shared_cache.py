"""Folders that outlive a stage's workspace: DVC's queue runs each experiment in one that it throws away."""

from __future__ import annotations

import os
from pathlib import Path

SHARED_CACHE = "CSPIPE_SHARED_CACHE"
"""Variable: the clone whose folders are used."""
FOLDERS = (".cspipe/features", ".cspipe/lineage")
"""Not training states: a training that goes on in another run would record only the last run's time."""
WEIGHTS = "data/weights"
"""Downloads that git ignores; parameters name files there."""
CLONE = "clone"


def link_shared_cache() -> None:
    """Link the folders of the clone that CSPIPE_SHARED_CACHE names into the current folder, where they are not yet."""
    clone = os.environ.get(SHARED_CACHE)
    if clone and Path(clone).resolve() != Path.cwd():
        link_folders(Path(clone), Path(), *FOLDERS)


def link_folders(clone: Path, root: Path, *folders: str) -> None:
    """Link folders of a clone, made there if need be, and its downloaded weights into `root` where they are not yet."""
    for name in (*folders, WEIGHTS):
        here, shared = root / name, clone.resolve() / name
        if name != WEIGHTS:
            shared.mkdir(parents=True, exist_ok=True)
        if shared.is_dir() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(shared)


def share_dvc_cache(clone: Path, root: Path, *, as_remote: bool = False) -> None:
    """Have DVC in a checkout of a clone, `root`, use the clone's cache: as its own, or as a remote named CLONE."""
    from dvc.config import Config  # its configuration alone: a Repo takes a third of a second

    cache = as_dvc_writes(Path(Config(str(clone / ".dvc"))["cache"].get("dir") or clone / ".dvc" / "cache"))
    with Config(str(root.resolve() / ".dvc")).edit("local") as local:
        if as_remote:
            local["remote"][CLONE] = {"url": cache}
        else:
            local["cache"] |= {"dir": cache, "type": "reflink,hardlink,symlink,copy"}


def as_dvc_writes(path: Path) -> str:
    """A path for DVC's configuration. DVC writes ASCII alone, and a relative path relative to the configuration."""
    return os.path.relpath(path.resolve())
