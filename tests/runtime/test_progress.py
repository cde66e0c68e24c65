"""Progress in a log: whole lines, the last one once, and none of it in a failed run's way."""

from collections.abc import Callable

import pytest

from cspipe.runtime.progress import Progress


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


def test_failed_work_shows_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), Progress("sample", 8) as progress:
        progress.advance(4 // 0)
    assert capsys.readouterr().err == ""


def test_bar_inside_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Training measures the module on its way."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    with Progress("train", 2) as train:
        train.advance(1)
        with Progress("train-norm", 4) as norm:
            norm.advance(4)
        train.advance(1)
    shown = capsys.readouterr().out
    assert "train-norm" in shown
    assert "4/4" in shown
    assert "2/2" in shown
