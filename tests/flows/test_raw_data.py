"""Own images in a run's workspace: DVC sees there what it sees in the clone, and .dvc files go before a clone's own."""

import json
from pathlib import Path

import pytest
import yaml

from cspipe.runtime.git import git
from flows.raw_data import link_raw_files
from flows.workspace import Workspace, open_workspace
from tests.conftest import ROOT
from tests.stages.conftest import commit, new_repository, run_in

PIPELINE = {"stages": {"prepare": {"cmd": "ls -R data/raw > out", "deps": ["data/raw"], "outs": ["out"]}}}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with this project's .gitignore, whose stage reads data/raw, and two images of a person."""
    files = {"dvc.yaml": yaml.safe_dump(PIPELINE), "data/raw/README.md": "put images here\n"}
    folder = new_repository(tmp_path / "clone", {**files, ".gitignore": (ROOT / ".gitignore").read_text() + "/out\n"})
    (folder / "data/raw/mine/more").mkdir(parents=True)
    for name in ("a.png", "more/b.png"):
        (folder / "data/raw/mine" / name).write_text(name)
    return folder


def changed(workspace: Workspace) -> str:
    return run_in(workspace.root, "dvc", "status", "--json").stdout


def open_at_head(clone: Path) -> object:
    return open_workspace(clone, git(clone, "rev-parse", "HEAD"), "run", None)


def test_own_images_are_those_of_the_clone_to_dvc_too(clone: Path) -> None:
    run_in(clone, "dvc", "repro")
    commit(clone, "results")
    with open_at_head(clone) as workspace:
        assert "data/raw" in changed(workspace)
        assert link_raw_files(clone, workspace.root) == [Path("data/raw/mine")]
        assert "data/raw" not in json.loads(changed(workspace)).get("prepare", "")
        assert (workspace.root / "data/raw/mine/more/b.png").read_text() == "more/b.png"
    assert (clone / "data/raw/mine/more/b.png").read_text() == "more/b.png"  # the links went, not the images
