"""How a stage ended, for machines: its exit status, and a small file with the same and the sentence for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from cspipe.runtime.files import whole_file

FOLDER = Path(".cspipe/ended")
"""In the repository's root: `<stage>.json` of the last run of each stage there. No output of DVC's."""


class End(IntEnum):
    """Exit statuses of a stage; from 69 to 76 those of sysexits.h."""

    DONE = 0
    FAILED = 1
    """Bad input, or a bug."""
    S3_AWAY = 69
    NOT_FINITE = 70
    """A loss, gradient or weight."""
    OUT_OF_MEMORY = 71
    CANNOT_WRITE = 73
    """The disk is full, or a permission is missing."""
    PREEMPTED = 75
    """By SIGTERM: nothing is wrong, the same command goes on."""
    TAKEN_OVER = 76
    """Another worker has the training."""
    STOPPED = 130
    """By Ctrl-C."""
    KILLED = 137
    """By signal 9, which a shell reports so."""


@dataclass(frozen=True)
class StageEnd:
    """What the file says. A stage begins with KILLED, which stands if it can write nothing else."""

    stage: str
    end: End = End.KILLED
    message: str = ""


def write_end(ended: StageEnd) -> None:
    """Write the file of a stage below the current folder."""
    with whole_file(file_of(ended.stage)) as beside:
        beside.write_text(json.dumps({**asdict(ended), "end": ended.end.name}) + "\n", encoding="utf-8")


def read_end(root: Path, stage: str) -> StageEnd | None:
    """What the file of a stage in the repository `root` says; None if there is none."""
    file = root / file_of(stage)
    if not file.is_file():
        return None
    tree = json.loads(file.read_text(encoding="utf-8"))
    return StageEnd(**{**tree, "end": End[tree["end"]]})


def forget_end(root: Path, stage: str) -> None:
    """Remove the file of a stage's earlier run."""
    (root / file_of(stage)).unlink(missing_ok=True)


def file_of(stage: str, ending: str = "json") -> Path:
    """A file of a stage. Names have been checked by nobody yet."""
    return FOLDER / f"{stage.replace('/', '_')}.{ending}"
