"""How a stage ended, for other programs: its exit status, and a small file with that status and the user's message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from cspipe.runtime.files import whole_file

FOLDER = Path(".cspipe/ended")
"""Folder in the repository's root with `<stage>.json` of each stage's last run there; not an output of DVC."""


class End(IntEnum):
    """Exit statuses of a stage; those from 69 to 76 are from sysexits.h."""

    DONE = 0
    FAILED = 1
    """Invalid input, or a bug."""
    S3_AWAY = 69
    NOT_FINITE = 70
    """A loss, gradient or weight is not finite."""
    OUT_OF_MEMORY = 71
    CANNOT_WRITE = 73
    """The disk is full, or a permission is missing."""
    PREEMPTED = 75
    """Stopped by SIGTERM: nothing is wrong, and the same command resumes."""
    TAKEN_OVER = 76
    """The run belongs to another worker now."""
    STOPPED = 130
    """Stopped by Ctrl-C."""
    KILLED = 137
    """Killed by signal 9: the status that a shell reports for it."""


@dataclass(frozen=True)
class StageEnd:
    """Content of a stage's file. A stage starts by writing KILLED, which remains if it cannot write anything else."""

    stage: str
    end: End = End.KILLED
    message: str = ""


def write_end(ended: StageEnd) -> None:
    """Write how a stage ended to its file below the current folder."""
    with whole_file(file_of(ended.stage)) as beside:
        beside.write_text(json.dumps({**asdict(ended), "end": ended.end.name}) + "\n", encoding="utf-8")


def read_end(root: Path, stage: str) -> StageEnd | None:
    """Read the file of a stage in the repository `root`; None if there is none."""
    file = root / file_of(stage)
    if not file.is_file():
        return None
    tree = json.loads(file.read_text(encoding="utf-8"))
    return StageEnd(**{**tree, "end": End[tree["end"]]})


def forget_end(root: Path, stage: str) -> None:
    """Remove the file of a stage's earlier run in the repository `root`."""
    (root / file_of(stage)).unlink(missing_ok=True)


def file_of(stage: str, ending: str = "json") -> Path:
    """Path of a file of a stage; slashes in its name, which nothing has validated yet, are replaced."""
    return FOLDER / f"{stage.replace('/', '_')}.{ending}"
