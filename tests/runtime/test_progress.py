"""Progress in a log: whole lines, the last one once, and none of it in a failed run's way."""

import pytest

from cspipe.runtime.progress import Progress


def test_log_has_count_rate_time_left_and_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cspipe.runtime.progress.SECONDS_BETWEEN_LINES", -1.0)
    with Progress("train", 100, done=20) as progress:
        progress.advance(40, note="loss 0.5")
        progress.advance(60)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["60/100", "100/100"]
    assert all("images/s" in line and "s left" in line and "loss 0.5" in line for line in lines)


def test_short_work_tells_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("sample", 8) as progress:
        progress.advance(8)
    assert capsys.readouterr().err.count("sample: 8/8 (100 %)") == 1


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


def test_rate_counts_what_this_process_did() -> None:
    progress = Progress("train", 100, done=90)
    progress.advance(5)
    assert progress.done == 95
    assert progress.rate > 0
