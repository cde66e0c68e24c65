"""The task graph is dvc.yaml's."""

from pathlib import Path

import pytest

from flows.graph import read_graph
from tests.conftest import ROOT
from tests.stages.conftest import new_repository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repo", {name: (ROOT / name).read_text() for name in ("dvc.yaml", "params.yaml")})


def test_stages_cells_pools_and_edges_come_from_dvc(root: Path) -> None:
    nodes = {node.name: node for node in read_graph(root)}
    assert nodes["prepare"].pool == "cpu"
    assert nodes["train"].pool == "gpu"
    assert {"compensate", "train"} & set(nodes["sample@ddim-100"].upstream) == {"train"}
    assert {"compensate", "train"} < {*nodes["sample@cs-10"].upstream, "sample@cs-10"}
    assert nodes["train"].gpus == 1
    assert nodes["evaluate@cs-10"].files == ("metrics/cs-10.json",)
    assert {"evaluate@cs-100", "sample@ddim-100"} < set(nodes["report"].upstream)


@pytest.mark.parametrize(("gpus", "asked"), [("4", 4), ("all", 1)])
def test_jobs_ask_for_as_many_gpus_as_the_parameters(root: Path, gpus: str, asked: int) -> None:
    """`all` are those that the pool gives to a job."""
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("gpus: 1 ", f"gpus: {gpus} "))
    nodes = {node.name: node.gpus for node in read_graph(root)}
    assert {name for name, count in nodes.items() if count == asked} >= {"train", "compensate", "sample@cs-10"}
    assert nodes["report"] == 1
