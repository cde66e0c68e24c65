"""A folder in which a stack may run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.local import record
from tests.flows.local.stacks import CSPIPE, DEPLOYMENTS, run
from tests.flows.server import write_project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project folder; a stack that a failing test left in it is stopped."""
    write_project(tmp_path / "project", DEPLOYMENTS)
    yield tmp_path / "project"
    if record.read(tmp_path / "project") is not None:
        run(tmp_path / "project", [CSPIPE, "down"])
