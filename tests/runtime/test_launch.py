"""What the launcher of ranks does when they end; tests/training/test_ranks.py runs real ones."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from cspipe.runtime.launch import _stop


def test_a_rank_that_ends_while_it_is_stopped_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["true"])
    listed = [psutil.Process(child.pid)]
    child.wait()
    monkeypatch.setattr(psutil.Process, "children", lambda self: listed)
    asked = set[int]()
    _stop(asked)
    assert asked == {child.pid}
