"""Progress in a log: whole lines, the last one once."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch  # noqa: F401 (a process that has it is asked for the memory of its GPU)

from cspipe.runtime.progress import Progress
from flows.command import Step, as_step


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock."""
    times = [0.0]
    monkeypatch.setattr("cspipe.runtime.progress.monotonic", lambda: sum(times))
    return times.append


def test_log_has_count_rate_of_this_process_time_left_and_note(
    capsys: pytest.CaptureFixture[str], sleep: Callable[[float], None]
) -> None:
    with Progress("train", 100, done=20) as progress:
        sleep(8)
        progress.advance(20)
        sleep(8)
        progress.advance(20, note="loss 0.5")
        sleep(4)
        progress.advance(60)
    assert capsys.readouterr().err.splitlines() == [
        "train: 60/100 (60 %), 2 images/s, 16 s left  loss 0.5",
        "train: 100/100 (100 %), 4 images/s, 0 s left  loss 0.5",
    ]


def test_other_work_in_between_soon_counts_no_more(
    capsys: pytest.CaptureFixture[str], sleep: Callable[[float], None]
) -> None:
    with Progress("train", 400) as progress:
        for seconds in (*[1] * 100, 1000, *[1] * 99):
            sleep(seconds)
            progress.advance(2)
    assert "400/400 (100 %), 2 images/s" in capsys.readouterr().err


def test_the_memory_that_is_held_of_a_gpu_is_told(
    capsys: pytest.CaptureFixture[str], sleep: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: int(3.1e9))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda: SimpleNamespace(total_memory=int(80e9)))
    with Progress("train", 100) as progress:
        sleep(60)
        progress.advance(100)
    line = capsys.readouterr().err
    assert "3.1 of 80.0 GB" in line
    assert as_step(line) == Step("train", 100, 100, 2, 0)  # Prefect's bars are made of it


def test_nothing_is_said_where_quiet_is_asked_for(
    capsys: pytest.CaptureFixture[str], sleep: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSPIPE_QUIET", "1")
    with Progress("train", 100) as progress:
        sleep(60)
        progress.advance(50)
        progress.advance(50)
    assert capsys.readouterr() == ("", "")
