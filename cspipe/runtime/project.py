"""The project that a command works in: its root is the folder of dvc.yaml."""

from __future__ import annotations

from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import PIPELINE


def project_root() -> Path:
    """Return the nearest folder with a dvc.yaml, this one or one above it. Raises UserError if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PIPELINE).is_file():
            return folder
    raise UserError(f"{here}: no {PIPELINE} here or above; run this in a project, `cspipe init DIR` makes one")


def check_at_root() -> None:
    """Raise UserError, naming the project's root, if this folder is not it."""
    if (root := project_root()) != Path.cwd():
        raise UserError(f"{Path.cwd()}: not the root of the project; run this in {root}")
