"""What a workspace that is thrown away leaves behind in the clone that lends its folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspipe.runtime.shared_cache import LENDER, borrow


def test_records_and_features_land_with_the_lender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lender, workspace = tmp_path / "lender", tmp_path / "workspace"
    (lender / "data/weights").mkdir(parents=True)
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv(LENDER, str(lender))
    borrow()
    borrow()  # the next stage in the same workspace
    for folder in (".cspipe/lineage", ".cspipe/features", "data/weights"):
        (workspace / folder / "file").write_text("kept")
        assert (lender / folder / "file").read_text() == "kept"
    assert not (workspace / ".cspipe/states").exists()


def test_own_folders_are_left_alone_and_without_a_lender_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(LENDER, raising=False)
    borrow()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(LENDER, str(tmp_path))
    borrow()
    assert list(tmp_path.iterdir()) == []
