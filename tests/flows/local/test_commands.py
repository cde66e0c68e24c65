"""The commands that a checkout adds to `cspipe`, and a wheel, which has no flows/, without them."""

from __future__ import annotations

import subprocess
import sys

from cspipe.cli.main import app
from tests.conftest import ROOT

COMMANDS = {"down", "status", "up", "worker"}
WITHOUT_FLOWS = """
import sys
sys.modules["flows"] = None
from cspipe.cli.main import app
print(*[command.name for command in app.registered_commands])
"""


def test_a_checkout_has_the_commands() -> None:
    """If not: `uv sync` installs the entry points of pyproject.toml."""
    assert {command.name for command in app.registered_commands} >= COMMANDS


def test_without_flows_there_is_no_trace_of_them() -> None:
    command = [sys.executable, "-c", WITHOUT_FLOWS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not COMMANDS & set(done.stdout.split())
    assert done.stderr == ""
