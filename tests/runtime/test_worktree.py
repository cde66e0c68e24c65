"""Worktrees: what stays of one that is removed, and the DVC cache that it shares."""

from pathlib import Path

import pytest

from cspipe.runtime.worktree import CLONE, add_worktree, remove_worktree, share_dvc_cache
from tests.stages.conftest import new_repository, run_in


def test_what_is_written_to_shared_folders_stays_when_the_worktree_goes(tmp_path: Path) -> None:
    clone, root = new_repository(tmp_path / "clone", {"dvc.yaml": "stages: {}"}), tmp_path / "worktree"
    (clone / "data/weights").mkdir(parents=True)
    add_worktree(clone, root, "HEAD", ".cspipe/lineage")
    (root / ".cspipe/states").mkdir()
    for folder in (".cspipe/lineage", "data/weights", ".cspipe/states"):
        (root / folder / "file").write_text("made")
    remove_worktree(clone, root)
    remove_worktree(clone, root)  # by another that cleans up
    assert not root.exists()
    kept = [folder for folder in (".cspipe/lineage", "data/weights", ".cspipe/states") if (clone / folder).exists()]
    assert [(clone / folder / "file").read_text() for folder in kept] == ["made", "made"]


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
