"""What a process must not wait for: imports that only some of its uses need."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("cspipe.ingest.files", ["pydantic"]),  # of each worker process of prepare
        ("cspipe.stages.train", ["botocore", "torch.distributed.launcher"]),
        ("cspipe.cli.main", ["torch"]),  # `cspipe --help`
        ("cspipe.study.names", ["torch"]),  # a study that does not exist
        ("flows.watch", ["torch"]),
        ("flows.local.status", ["torch"]),
    ],
)
def test_a_start_leaves_out(module: str, unneeded: list[str]) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in {unneeded}))"
    subprocess.run([sys.executable, "-c", code], check=True)
