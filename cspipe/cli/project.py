"""The project that a command reports on: the folder of dvc.yaml, which the command may be run below."""

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
