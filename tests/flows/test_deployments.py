"""prefect.yaml against the flows and presets that it names."""

import ast
from typing import Any

import pytest
import yaml

from cspipe.config.overlays import preset_names
from flows.setup import SLOTS
from flows.supervise import NIGHTLY, TAG
from tests.conftest import ROOT

DEPLOYMENTS: dict[str, Any] = {
    entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_names_a_flow_and_its_parameters(name: str) -> None:
    entry = DEPLOYMENTS[name]
    file, function = entry["entrypoint"].split(":")
    tree = ast.parse((ROOT / file).read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    decorators = [node.func if isinstance(node, ast.Call) else node for node in found.decorator_list]
    assert [node.id for node in decorators if isinstance(node, ast.Name)] == ["flow"]
    known = {argument.arg for argument in found.args.args + found.args.kwonlyargs}
    assert set(entry.get("parameters", {})) <= known
    assert entry.get("parameters", {}).get("preset", "demo") in preset_names()
    assert entry["work_pool"]["name"] in SLOTS
    assert TAG in entry["tags"]  # or nobody watches over its runs


def test_a_concurrency_slot_is_held_by_the_nightly_alone() -> None:
    """Over a training, a lost lease would end the run."""
    assert {name for name, entry in DEPLOYMENTS.items() if "concurrency_limit" in entry} == {NIGHTLY}
