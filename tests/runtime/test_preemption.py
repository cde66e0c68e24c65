"""SIGTERM as a process meets it: at once, put off, and repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cspipe.runtime import preemption
from cspipe.runtime.preemption import Preempted, deferred, heeded
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _handler_is_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def work(steps: list[str], *, ends_early: bool = False, times: int = 1) -> None:
    """A stage that saves its work in the middle and is told to stop before it does."""
    with heeded():
        steps.append("start")
        with deferred() as stopping:
            assert not stopping()
            for _ in range(times):
                terminate()
            assert stopping()
            if ends_early:
                raise ZeroDivisionError
            steps.append("saved")
        steps.append("end")


def impatient_work(steps: list[str]) -> None:
    with heeded():
        steps.append("start")
        terminate()
        steps.append("end")


def test_work_stops_at_once() -> None:
    steps: list[str] = []
    with pytest.raises(Preempted):
        impatient_work(steps)
    assert steps == ["start"]


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


def test_signal_of_an_earlier_run_is_forgotten() -> None:
    with pytest.raises(Preempted):
        impatient_work([])
    with heeded(), deferred() as stopping:
        assert not stopping()


def test_later_signal_ends_the_process() -> None:
    program = (
        "import time\nfrom cspipe.runtime import preemption\npreemption.SAME_REQUEST = 0.5\n"
        "with preemption.heeded(), preemption.deferred():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        time.sleep(0.8)
        assert process.poll() is None
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


def test_status_is_that_of_a_temporary_failure() -> None:
    assert preemption.EXIT_STATUS == os.EX_TEMPFAIL == 75
