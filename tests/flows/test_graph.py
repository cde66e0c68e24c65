"""The task graph is dvc.yaml's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cspipe.runtime.errors import UserError
from flows.graph import read_graph
from tests.conftest import ROOT
from tests.stages.conftest import run_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with this project's pipeline."""
    run_in(tmp_path, "git", "init", "-q")
    run_in(tmp_path, "dvc", "init", "-q")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_stages_cells_pools_and_edges_come_from_dvc(root: Path) -> None:
    nodes = {node.name: node for node in read_graph(root)}
    assert nodes["prepare"].pool == "cpu"
    assert nodes["train"].pool == "gpu"
    assert {"compensate", "train"} & set(nodes["sample@ddim-100"].upstream) == {"train"}
    assert {"compensate", "train"} < {*nodes["sample@cs-10"].upstream, "sample@cs-10"}
    assert nodes["evaluate@cs-10"].files == ("metrics/cs-10.json",)
    assert {"evaluate@cs-100", "sample@ddim-100"} < set(nodes["report"].upstream)


def test_each_stage_comes_after_those_it_reads(root: Path) -> None:
    done: set[str] = set()
    for node in read_graph(root):
        assert set(node.upstream) <= done
        done.add(node.name)


def test_names_do_not_depend_on_the_current_folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "train" in {node.name for node in read_graph(root)}


def test_tracked_pictures_are_data_not_a_stage(root: Path) -> None:
    (root / "data/raw/mine").mkdir(parents=True)
    (root / "data/raw/mine/a.txt").write_text("a")
    run_in(root, "dvc", "add", "-q", "data/raw/mine")
    nodes = {node.name: node for node in read_graph(root)}
    assert nodes["prepare"].data == ("data/raw/mine.dvc",)
    assert nodes["prepare"].upstream == ()


def test_a_stage_without_a_pool_is_named(root: Path) -> None:
    text = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(text.replace("    meta: {pool: cpu}\n\n  train:", "\n  train:"))
    with pytest.raises(UserError, match=r"stage prepare has no meta\.pool"):
        read_graph(root)


def test_a_dvc_yaml_that_is_none_is_named(root: Path) -> None:
    (root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.yaml"):
        read_graph(root)
