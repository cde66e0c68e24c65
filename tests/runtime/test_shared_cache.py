"""What a workspace that is thrown away leaves behind in the clone that has its folders."""

from pathlib import Path

import pytest

from cspipe.runtime.shared_cache import CLONE, SHARED_CACHE, link_shared_cache, share_dvc_cache
from tests.stages.conftest import new_repository, run_in


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


@pytest.mark.parametrize(("name", "elsewhere"), [("Jörg", False), ("clone", True)])
def test_a_clones_cache_is_found_below_any_name_and_through_links(tmp_path: Path, name: str, elsewhere: bool) -> None:
    """DVC writes ASCII alone into its configuration, and a person may keep .cspipe on another disk."""
    clone = new_repository(tmp_path / name, {"dvc.yaml": "stages: {}"})
    if elsewhere:
        (tmp_path / "disk").mkdir()
        (clone / ".cspipe").symlink_to(tmp_path / "disk")
    root = clone / ".cspipe/run"
    run_in(clone, "git", "worktree", "add", "-q", str(root))
    share_dvc_cache(clone, root)
    share_dvc_cache(clone, root, as_remote=True)
    assert Path(run_in(root, "dvc", "cache", "dir").stdout.strip()).resolve() == clone / ".dvc/cache"
    url = run_in(root, "dvc", "config", "--local", f"remote.{CLONE}.url").stdout.strip()
    assert (root.resolve() / ".dvc" / url).resolve() == clone / ".dvc/cache"
