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

from cspipe.runtime import gpu_lock
from tests.conftest import ROOT

HOLD = "import sys, time\nfrom cspipe.runtime.gpu_lock import take_first\nprint(take_first(sys.argv[1:]), flush=True)\n"


COLLECT = """
import os, sys
from cspipe.runtime import gpu_lock
gpu_lock.SECONDS_BETWEEN_TRIES = 0.02
count, times, *names = sys.argv[1:]
for _ in range(int(times)):
    print(*gpu_lock.take_several(names, int(count)), flush=True)
    if int(times) > 1:
        while gpu_lock._held:
            os.close(gpu_lock._held.popitem()[1])
"""


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


def collect(processes: list[subprocess.Popen[str]], count: int, *names: str, times: int = 1) -> subprocess.Popen[str]:
    """A process that takes several of the GPUs and prints which; once, and keeps them, or so many times and ends."""
    stay = "import time\ntime.sleep(600)" if times == 1 else ""
    command = [sys.executable, "-u", "-c", COLLECT + stay, str(count), str(times), *names]
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


def test_a_stage_that_was_granted_gpus_takes_the_first_that_it_sees(
    names: list[str], processes: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process above it holds them; a stage without the grant waits."""
    holder = collect(processes, 2, *names)
    assert holder.stdout.readline() == f"{' '.join(names)}\n"
    monkeypatch.setattr(gpu_lock, "_held", {})
    monkeypatch.setenv(gpu_lock.GRANTED, ",".join(names))
    assert gpu_lock.take_first(names) == 0
    assert gpu_lock._held == {}
    monkeypatch.delenv(gpu_lock.GRANTED)
    assert "is used by process" in start(processes, *names).stderr.readline()


def test_several_gpus_are_waited_for_while_a_stage_has_one(
    names: list[str], processes: list[subprocess.Popen[str]]
) -> None:
    single = start(processes, names[0])
    assert single.stdout.readline() == "0\n"
    both = collect(processes, 2, *names)
    assert both.stderr.readline() == f"GPU {names[0]} is used by process {single.pid}; waiting for it to end\n"
    single.kill()
    assert both.stdout.readline() == f"{names[1]} {names[0]}\n"


def test_two_that_want_all_gpus_never_wait_for_each_other(
    names: list[str], processes: list[subprocess.Popen[str]]
) -> None:
    """In opposite order, over and over: each would end up with one of them."""
    both = [collect(processes, 2, *order, times=20) for order in (names, names[::-1])]
    for process in both:
        assert process.wait(60) == 0


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
