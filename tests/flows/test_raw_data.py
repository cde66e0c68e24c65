"""Own images in a run's workspace: DVC sees there what it sees in the clone, and .dvc files go before a clone's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cspipe.config.params import Params
from cspipe.runtime.errors import UserError
from flows.raw_data import check_data, link_raw_files
from flows.workspace import Workspace, open_workspace
from tests.conftest import ROOT
from tests.stages.conftest import commit, new_repository, run_in

PIPELINE = {"stages": {"prepare": {"cmd": "ls -R data/raw > out", "deps": ["data/raw"], "outs": ["out"]}}}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with this project's .gitignore, whose stage reads data/raw, and two images of a person."""
    folder = new_repository(tmp_path / "clone")
    (folder / "data/raw").mkdir(parents=True)
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "/out\n")
    (folder / "data/raw/README.md").write_text("put images here\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    commit(folder, "start")
    (folder / "data/raw/mine/more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        (folder / "data/raw/mine" / name).write_text(name)
    return folder


def changed(workspace: Workspace) -> str:
    """What DVC would run."""
    return run_in(workspace.root, "dvc", "status", "--json").stdout


def open_at_head(clone: Path) -> object:
    return open_workspace(clone, run_in(clone, "git", "rev-parse", "HEAD").stdout.strip(), "run", None)


def test_own_images_are_those_of_the_clone_to_dvc_too(clone: Path) -> None:
    run_in(clone, "dvc", "repro")
    commit(clone, "results")
    with open_at_head(clone) as workspace:
        assert "data/raw" in changed(workspace)
        assert link_raw_files(clone, workspace.root) == [Path("data/raw/mine")]
        assert "data/raw" not in json.loads(changed(workspace)).get("prepare", "")
        assert (workspace.root / "data/raw/mine/more/b.png").read_text() == "more/b.png"
    assert (clone / "data/raw/mine/more/b.png").read_text() == "more/b.png"  # the links went, not the images


def test_what_dvc_tracks_is_seen_by_git_and_left_to_dvc(clone: Path) -> None:
    """With `/data/raw/*` in .gitignore DVC did not find mine.dvc: `?*` is what it reads as git does."""
    run_in(clone, "dvc", "add", "-q", "data/raw/mine")
    assert "data/raw/mine.dvc" in run_in(clone, "git", "status", "--porcelain", "-uall").stdout
    commit(clone, "images tracked")
    (clone / "data/raw/mine/a.png").write_text("changed since")
    with open_at_head(clone) as workspace:
        assert link_raw_files(clone, workspace.root) == []
        assert "mine.dvc" in run_in(workspace.root, "dvc", "dag", "--dot").stdout
        run_in(workspace.root, "dvc", "checkout", "-q", "data/raw/mine.dvc")
        assert (workspace.root / "data/raw/mine/a.png").read_text() == "a.png"


def test_missing_images_are_told_with_the_way_that_fits(clone: Path, params: Callable[..., Params]) -> None:
    data = params({"data.source": "folder", "data.path": "data/raw/faces"}).data
    with open_at_head(clone) as workspace:
        with pytest.raises(UserError, match=r"`dvc add data/raw/faces`, commit data/raw/faces\.dvc, `dvc push`"):
            check_data(workspace.root, data)
        (workspace.root / "data/raw/faces.dvc").write_text("outs: []")
        check_data(workspace.root, data)
        check_data(workspace.root, params().data)
        cifar = {"data.source": "cifar10", "data.path": "data/raw/cifar10", "data.held_out": "official"}
        check_data(workspace.root, params(cifar).data)  # it downloads
