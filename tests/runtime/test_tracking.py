"""Curves for Weights & Biases: who has no key is told in one line."""

from pathlib import Path

import pytest

from cspipe.runtime.errors import UserError
from cspipe.runtime.tracking import TrackingSettings, tracked


@pytest.mark.parametrize("key", [None, "", "too-short"])
def test_online_without_a_key_is_one_line_and_leaves_nothing(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "wandb"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    curves, settings = tmp_path / "curves", TrackingSettings(wandb="online", project="faces")
    one_line = r"^tracking\.wandb: online.* WANDB_API_KEY[^\n]*$"
    with pytest.raises(UserError, match=one_line), tracked(curves, settings, "run", {}):
        pass
    assert not curves.exists()


def test_an_offline_run_is_where_wandb_dir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "named"))
    with tracked(tmp_path / "curves", TrackingSettings(wandb="offline", project="faces"), "run", {}) as log:
        log(1, {"loss": 1.0})
    assert list((tmp_path / "named/wandb").glob("offline-run-*"))
