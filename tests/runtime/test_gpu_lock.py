"""One GPU, one process: real processes and a lock between them."""

import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from cspipe.runtime import gpu_lock
from tests.conftest import ROOT

HOLD = """
import sys, time
from cspipe.runtime import gpu_lock
gpu_lock.SECONDS_BETWEEN_TRIES = 0.02
print(*gpu_lock.take(sys.argv[2:], int(sys.argv[1])))
time.sleep(600)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Two GPUs that nobody else has heard of."""
    names = [f"test-{uuid4()}" for _ in range(2)]
    yield names
    for name in names:
        gpu_lock.lock_file(name).unlink(missing_ok=True)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that takes so many of some GPUs, prints their indices, and keeps them until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*names: str, count: int = 1) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-u", "-c", HOLD, str(count), *names], subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_second_waits_until_the_first_is_killed(names: list[str], start: Start) -> None:
    first = start(names[0])
    assert first.stdout.readline() == "0\n"
    second = start(names[0])
    assert str(first.pid) in second.stderr.readline()
    assert second.poll() is None
    first.kill()  # signal 9: nothing of it can free the lock but the system
    assert second.stdout.readline() == "0\n"
    assert gpu_lock.lock_file(names[0]).read_text() == f"{second.pid}\n"


def test_the_first_free_gpu_is_locked_for_every_user(names: list[str], start: Start) -> None:
    assert start(*names).stdout.readline() == "0\n"
    assert start(*names).stdout.readline() == "1\n"
    assert stat.S_IMODE(gpu_lock.lock_file(names[0]).stat().st_mode) == 0o666


def test_two_are_locked_together_or_none(names: list[str], start: Start) -> None:
    first = start(names[1])
    assert first.stdout.readline() == "0\n"
    both = start(*names, count=2)
    assert str(first.pid) in both.stderr.readline()
    assert start(names[0]).stdout.readline() == "0\n"
    assert both.poll() is None


def test_what_another_user_wrote_into_the_lock_commands_no_terminal(names: list[str]) -> None:
    file = gpu_lock.lock_file(names[0])
    file.write_bytes(b"1\x1b[2J\xff" + bytes(10**6))
    assert gpu_lock._user(names[0]).isprintable()
    assert len(gpu_lock._user(names[0])) < 100
