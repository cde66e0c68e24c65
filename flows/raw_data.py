"""What people bring into data/raw, in a run's workspace: the clone's own files, or what DVC tracks at the revision."""

from __future__ import annotations

import shutil
from pathlib import Path

from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import choice

RAW = Path("data/raw")


def link_own_files(clone: Path, root: Path) -> list[Path]:
    """Link the clone's files in data/raw that neither git nor DVC has at the revision into the workspace `root`.

    Returns the files and folders of data/raw that were linked. DVC follows links to files, not links to folders, so a
    folder becomes a folder of links. What a `.dvc` file of the revision names is left to DVC, which checks its hash.
    """
    own = []
    for entry in sorted((clone / RAW).glob("*")):
        place = root / RAW / entry.name
        if place.exists() or place.with_name(f"{entry.name}.dvc").exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, place, copy_function=_link)
        else:
            _link(entry, place)
        own.append(RAW / entry.name)
    return own


def _link(source: Path | str, place: Path | str) -> None:
    Path(place).symlink_to(Path(source).resolve())


def check_data(root: Path, data: DataSettings, *, one_clone: bool) -> None:
    """Raise UserError, saying how data come to where runs work, if data.path is not there and DVC does not bring it.

    `one_clone`: all workers work in the clone that the run was started in.
    """
    path = data.path
    if path is None or path.is_absolute() or getattr(choice(SOURCES, data.source), "DOWNLOADS", False):
        return
    above = [path, *path.parents]
    if (root / path).exists() or any((root / f"{each}.dvc").exists() for each in above):
        return
    if one_clone:
        raise UserError(f"data.path {path} is not in this clone; put the images there ({RAW}/README.md says which)")
    raise UserError(
        f"data.path {path} is not in the clone of the cpu worker, and DVC does not track it at this revision; put the "
        f"images there, or where they are: `dvc add {path}`, commit {path}.dvc, `dvc push`, `git push`"
    )
