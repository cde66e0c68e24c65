"""One GPU, one process: two real processes and a lock between them."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cspipe import gpu_lock
from tests.conftest import ROOT

HOLD = "import sys, time\nfrom cspipe.gpu_lock import take_first\nprint(take_first(sys.argv[1:]), flush=True)\n"


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Two GPUs that nobody else has heard of."""
    names = [f"test-{uuid4()}" for _ in range(2)]
    yield names
    for name in names:
        gpu_lock.lock_file(name).unlink(missing_ok=True)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(processes: list[subprocess.Popen[str]], *names: str) -> subprocess.Popen[str]:
    """A process that takes one of the GPUs, prints which, and keeps it until it is ended."""
    command = [sys.executable, "-u", "-c", HOLD + "time.sleep(600)", *names]
    pipe = subprocess.PIPE
    processes.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
    return processes[-1]


def test_second_waits_for_the_first_to_end(names: list[str], processes: list[subprocess.Popen[str]]) -> None:
    first = start(processes, names[0])
    assert first.stdout.readline() == "0\n"
    second = start(processes, names[0])
    told = second.stderr.readline()
    assert told == f"GPU {names[0]} is used by process {first.pid}; waiting for it to end\n"
    time.sleep(1.5)
    assert second.poll() is None
    first.kill()
    assert second.stdout.readline() == "0\n"
    assert gpu_lock.lock_file(names[0]).read_text() == f"{second.pid}\n"


def test_first_free_gpu_is_taken(names: list[str], processes: list[subprocess.Popen[str]]) -> None:
    assert start(processes, *names).stdout.readline() == "0\n"
    assert start(processes, *names).stdout.readline() == "1\n"


def test_process_that_has_a_gpu_keeps_it(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_lock, "_held", {})
    assert gpu_lock.take_first(names) == 0
    assert gpu_lock.take_first(names) == 0


def test_lock_is_for_every_user(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_lock, "_held", {})
    gpu_lock.take_first(names)
    assert stat.S_IMODE(gpu_lock.lock_file(names[0]).stat().st_mode) == 0o666


def test_link_in_the_place_of_a_lock_is_not_followed(names: list[str], tmp_path: Path) -> None:
    gpu_lock.lock_file(names[0]).symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(OSError, match="symbolic links"):
        gpu_lock.take_first(names)
    assert (tmp_path / "mine").read_text() == "precious"
