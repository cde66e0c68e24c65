"""Typing `cspipe up`, `down` and `status` in a small project folder, and looking at what runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from flows.local import record, s3_server
from flows.local.record import STACK, Stack

DEPLOYMENTS = """
  - {name: train-demo, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: run-stage-gpu, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: gpu}}
"""
DRIVER = """
import sys
from cspipe.runtime.errors import UserError
from flows.local.stack import down, up
from flows.local.status import status
from flows.local.workers import worker
try:
    sys.exit(0 if {call} in (None, True) else 1)
except UserError as error:
    sys.exit(f"cspipe: {{error}}")
"""
PREFECT = str(Path(sys.executable).parent / "prefect")


def typed(call: str) -> list[str]:
    """The command for a call, as `cspipe` makes it."""
    return [sys.executable, "-c", DRIVER.format(call=call)]


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


def sockets(project: Path) -> list[Path]:
    """What is left of the stack's S3 server in the temporary folder."""
    ports = s3_server.read_ports(project / STACK / "s3").values()
    numbers = [number for port in ports for number in (port, port + 10000)]  # HTTP and gRPC
    return [path for number in numbers for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock")]
