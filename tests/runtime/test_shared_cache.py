"""What a workspace that is thrown away leaves behind in the clone that has its folders."""

from pathlib import Path

import pytest

from cspipe.runtime.shared_cache import SHARED_CACHE, link_shared_cache


def test_records_and_features_land_in_the_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone, workspace = tmp_path / "clone", tmp_path / "workspace"
    (clone / "data/weights").mkdir(parents=True)
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv(SHARED_CACHE, str(clone))
    link_shared_cache()
    link_shared_cache()  # the next stage in the same workspace
    for folder in (".cspipe/lineage", ".cspipe/features", "data/weights"):
        (workspace / folder / "file").write_text("kept")
        assert (clone / folder / "file").read_text() == "kept"
    assert not (workspace / ".cspipe/states").exists()
