"""Own images in data/raw of a run's workspace: the clone's files, or those that DVC tracks at the revision."""

from __future__ import annotations

import shutil
from pathlib import Path

from cspipe.config.checks import dvc_files, needed_files
from cspipe.ingest.settings import DataSettings
from cspipe.runtime.errors import UserError

RAW = Path("data/raw")


def link_raw_files(clone: Path, root: Path) -> list[Path]:
    """Link into a workspace the entries of the clone's data/raw that the revision lacks in git and DVC; return them.

    DVC follows links to files, not to folders, so a folder becomes a folder of links. An entry that has a `.dvc` file
    at the revision is left to DVC, which checks its hash.
    """
    linked = []
    for entry in sorted((clone / RAW).glob("*")):
        place = root / RAW / entry.name
        if place.exists() or place.with_name(f"{entry.name}.dvc").exists():
            continue
        if entry.is_dir():
            shutil.copytree(entry, place, copy_function=_link)
        else:
            _link(entry, place)
        linked.append(RAW / entry.name)
    return linked


def _link(source: Path | str, place: Path | str) -> None:
    Path(place).symlink_to(Path(source).resolve())


def check_data(root: Path, data: DataSettings) -> None:
    """Raise UserError, saying how to provide data, if data.path is not in the workspace and DVC does not track it."""
    path = needed_files(data)
    if path is None or path.is_absolute() or (root / path).exists():
        return
    if not any((root / file).exists() for file in dvc_files(path)):
        raise UserError(
            f"data.path {path} is not in the clone of the cpu worker, and DVC does not track it at this revision; put "
            f"the images there ({RAW}/README.md), or elsewhere `dvc add {path}`, commit {path}.dvc, `dvc push`, "
            "`git push`"
        )
