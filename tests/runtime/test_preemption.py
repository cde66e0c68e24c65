"""SIGTERM as a process meets it: at once, put off, and repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cspipe.runtime.preemption import Preempted, sigterm_deferred, sigterm_raises
from tests.conftest import ROOT

PATIENT = """
import time
from cspipe.runtime import preemption
preemption.SAME_REQUEST = 0
with preemption.sigterm_raises(), preemption.sigterm_deferred() as stopping:
    print("ready", flush=True)
    while not stopping():
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _handler_is_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def work(steps: list[str], *, ends_early: bool = False, times: int = 1) -> None:
    """A stage that saves its work in the middle and is told to stop before it does."""
    with sigterm_raises():
        steps.append("start")
        with sigterm_deferred() as stopping:
            assert not stopping()
            for _ in range(times):
                terminate()
            assert stopping()
            if ends_early:
                raise ZeroDivisionError
            steps.append("saved")
        steps.append("end")


def impatient_work(steps: list[str]) -> None:
    with sigterm_raises():
        steps.append("start")
        terminate()
        steps.append("end")


def test_work_stops_at_once_and_the_next_does_not_hear_of_it() -> None:
    steps: list[str] = []
    with pytest.raises(Preempted):
        impatient_work(steps)
    assert steps == ["start"]
    with sigterm_raises(), sigterm_deferred() as stopping:
        assert not stopping()


@pytest.mark.parametrize("times", [1, 2])
def test_work_that_saves_itself_is_asked_to_and_stops_after_it(times: int) -> None:
    """Twice: Prefect signals the group, the flow then its child; the second must not cut the saving short."""
    steps: list[str] = []
    with pytest.raises(Preempted):
        work(steps, times=times)
    assert steps == ["start", "saved"]


def test_error_on_the_way_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        work([], ends_early=True)


def test_later_signal_ends_the_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", PATIENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for said in ("ready\n", "saving\n"):
            assert process.stdout.readline() == said
            process.terminate()
        assert process.wait(5) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
