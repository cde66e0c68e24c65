"""Which of the processes this is that share a stage's work, a GPU each; runtime/launch.py starts them."""

from __future__ import annotations

import os

LAUNCHER = "CSPIPE_LAUNCHER"
"""Variable of the processes (ranks), with the process id of the one that has started them; torch's have the rest."""


def inside() -> bool:
    """Whether this process is a rank; its launcher has the variable too."""
    return os.environ.get(LAUNCHER, "") not in ("", str(os.getpid()))


def rank() -> int:
    """Which of `world` processes this is; 0, which it is without others, does what is done once."""
    return int(os.environ["RANK"]) if inside() else 0


def world() -> int:
    """Processes that share the work; 1 without others."""
    return int(os.environ["WORLD_SIZE"]) if inside() else 1


def local_rank() -> int:
    """Which it is of those on this machine."""
    return int(os.environ["LOCAL_RANK"]) if inside() else 0


def name_of(stage: str, number: int) -> str:
    """Under which name a rank says how it ended."""
    return f"{stage}.rank-{number}"
