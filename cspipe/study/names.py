"""Names of studies, which are folders of studies/: without pydantic's models and torch, which take seconds."""

from __future__ import annotations

import re
from pathlib import Path

from cspipe.runtime.errors import UserError

STUDIES = Path("studies")
NAME = r"^[a-z0-9]+([+_.-][a-z0-9]+)*$"
"""Pattern of the names of studies, rows and points, which become part of a git reference."""


def study_names(root: Path) -> list[str]:
    """Return the names of the studies in a repository, sorted."""
    names = (path.parent.name for path in (root / STUDIES).glob("*/study.yaml"))
    return sorted(name for name in names if re.fullmatch(NAME, name))


def check_name(root: Path, name: str) -> None:
    """Raise UserError, listing the studies, if there is none of this name."""
    if name not in study_names(root):
        raise UserError(f"no study {name!r} in {STUDIES}/; there are {', '.join(study_names(root)) or 'none'}")
