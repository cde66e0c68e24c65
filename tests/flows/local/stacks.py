"""Typing `cspipe up`, `down` and `status` in a small project folder, and looking at what runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from flows.local import record
from flows.local.record import Stack

DEPLOYMENTS = """
  - {name: train-demo, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: run-stage-gpu, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: gpu}}
"""
CSPIPE, PREFECT = (str(Path(sys.executable).parent / name) for name in ("cspipe", "prefect"))


def user(**variables: str) -> dict[str, str]:
    """The environment of somebody who has set nothing."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CSPIPE_", "AWS_"))}
    return mine | {"DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"} | variables


def run(folder: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=user(**variables), capture_output=True, text=True, check=False, timeout=400
    )


def read(folder: Path) -> Stack:
    found = record.read(folder)
    assert found is not None
    return found


def kill(stack: Stack, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill parts, not what they have started."""
    for part in stack.parts:
        if part.name in names:
            os.kill(part.pid, number)
