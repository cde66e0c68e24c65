"""The number of this process among the ranks that share a stage's work, a GPU each; runtime/launch.py starts them."""

from __future__ import annotations

import os

LAUNCHER = "CSPIPE_LAUNCHER"
"""Environment variable of the ranks: process id of their launcher. Torch's own variables have rank and world size."""


def inside() -> bool:
    """Whether this process is a rank. Its launcher has the variable too, with its own process id."""
    return os.environ.get(LAUNCHER, "") not in ("", str(os.getpid()))


def rank() -> int:
    """Number of this process among the ranks; 0 if it is the only one. Rank 0 does what is to be done once."""
    return int(os.environ["RANK"]) if inside() else 0


def world() -> int:
    """Number of processes that share the work; 1 if this is the only one."""
    return int(os.environ["WORLD_SIZE"]) if inside() else 1


def local_rank() -> int:
    """Number of this process among the ranks on this machine; 0 if it is the only one."""
    return int(os.environ["LOCAL_RANK"]) if inside() else 0


def name_of(stage: str, number: int) -> str:
    """Name of a rank, in place of a stage's, in the file that says how it ended (runtime/ends.py)."""
    return f"{stage}.rank-{number}"
