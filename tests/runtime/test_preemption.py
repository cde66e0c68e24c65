"""SIGTERM and Ctrl-C as a process meets them: at once, put off, and repeated."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cspipe.runtime.preemption import Preempted, sigterm_deferred, sigterm_raises
from tests.conftest import ROOT

RAISED = {signal.SIGTERM: Preempted, signal.SIGINT: KeyboardInterrupt}
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
    before = [signal.getsignal(number) for number in RAISED]
    yield
    assert [signal.getsignal(number) for number in RAISED] == before


def send(number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def work(
    steps: list[str], number: signal.Signals = signal.SIGTERM, *, ends_early: bool = False, times: int = 1
) -> None:
    """A stage that saves its work in the middle and is told to stop before it does."""
    with sigterm_raises():
        steps.append("start")
        with sigterm_deferred() as stopping:
            assert not stopping()
            for _ in range(times):
                send(number)
            assert stopping()
            if ends_early:
                raise ZeroDivisionError
            steps.append("saved")
        steps.append("end")


def impatient_work(steps: list[str], number: signal.Signals) -> None:
    with sigterm_raises():
        steps.append("start")
        send(number)
        steps.append("end")


def work_that_says_where(number: signal.Signals) -> None:
    with sigterm_raises(), sigterm_deferred():
        send(number)
        raise Preempted("at 8 images")


@pytest.mark.parametrize("number", RAISED)
def test_work_stops_at_once_and_the_next_does_not_hear_of_it(number: signal.Signals) -> None:
    steps: list[str] = []
    with pytest.raises(RAISED[number]):
        impatient_work(steps, number)
    assert steps == ["start"]
    with sigterm_raises(), sigterm_deferred() as stopping:
        assert not stopping()


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_work_that_saves_itself_is_asked_to_and_stops_after_it(
    number: signal.Signals, times: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Twice: Prefect signals the group, the flow then its child; the second must not cut the saving short."""
    steps: list[str] = []
    with pytest.raises(RAISED[number]):
        work(steps, number, times=times)
    assert steps == ["start", "saved"]
    assert capfd.readouterr().err.count("stopping as soon as the work is saved") == 1


def test_second_interrupt_ends_the_work_at_once_and_the_first_is_said_by_its_message() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(steps, signal.SIGINT, times=2)
    assert steps == ["start"]
    with pytest.raises(KeyboardInterrupt, match="at 8 images"):
        work_that_says_where(signal.SIGINT)


def test_ignored_interrupt_stays_ignored() -> None:
    """A shell's background job has it so."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with sigterm_raises():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


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
