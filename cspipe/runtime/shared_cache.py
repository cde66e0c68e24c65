"""What a stage in a workspace that is thrown away keeps elsewhere: DVC's queue runs each experiment in such a one."""

from __future__ import annotations

import os
from pathlib import Path

LENDER = "CSPIPE_LENDER"
"""Variable: the clone whose folders are used."""
KEPT = (Path(".cspipe/features"), Path(".cspipe/lineage"))
WEIGHTS = Path("data/weights")
"""Downloads that git ignores; parameters name files there."""


def borrow() -> None:
    """Link the folders of the clone that CSPIPE_LENDER names into the current folder, where they are not yet.

    Training states are not among them: a training that goes on in another run would record only the last run's time.
    """
    lender = os.environ.get(LENDER)
    if not lender or Path(lender).resolve() == Path.cwd():
        return
    for folder in (*KEPT, WEIGHTS):
        own, lent = Path(folder), Path(lender).resolve() / folder
        if folder in KEPT:
            lent.mkdir(parents=True, exist_ok=True)
        if lent.is_dir() and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            own.symlink_to(lent)
