"""prefect.yaml against the flows that it names."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import yaml

from cspipe.config.overlays import preset_names
from flows.setup import SLOTS, SWEEPS
from flows.supervise import NIGHTLY, TAG
from tests.conftest import ROOT

DEPLOYMENTS: dict[str, Any] = {
    entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}
TRAININGS = {
    "train-demo": "demo",
    "train-cifar10": "cifar10",
    "train-celeba": "celeba64",
    "train-celebahq": "celebahq256",
    "train-ffhq": "ffhq256",
    "train-fsg": "fsg-deocclude",
}
ON_GPU = ("run-stage-gpu", "study")


def test_the_deployments_are_those_that_people_type() -> None:
    assert set(DEPLOYMENTS) == {*TRAININGS, *ON_GPU, "sweep", NIGHTLY}
    assert {name: DEPLOYMENTS[name]["parameters"]["preset"] for name in TRAININGS} == TRAININGS
    assert set(TRAININGS.values()) <= set(preset_names())  # the other presets: `train-demo -p preset=NAME`


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
    assert entry["work_pool"]["name"] == ("gpu" if name in ON_GPU else "cpu")
    assert entry["work_pool"]["name"] in SLOTS
    assert TAG in entry["tags"]  # or nobody watches over its runs


def test_the_nightly_has_a_time_zone_and_never_runs_twice_at_once() -> None:
    entry = DEPLOYMENTS[NIGHTLY]
    assert entry["schedules"] == [{"cron": "0 3 * * *", "timezone": "UTC", "slug": "nightly", "active": True}]
    assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert not any("schedules" in other for other in DEPLOYMENTS.values() if other is not entry)


def test_sweeps_alone_wait_in_the_queue_that_has_a_limit() -> None:
    queues = {name: entry["work_pool"].get("work_queue_name") for name, entry in DEPLOYMENTS.items()}
    assert {name: queue for name, queue in queues.items() if queue} == {"sweep": SWEEPS}


@pytest.mark.parametrize("name", [*TRAININGS, *ON_GPU, "sweep"])
def test_no_concurrency_slot_is_held_over_a_training(name: str) -> None:
    """A lost lease would end the run."""
    assert "concurrency_limit" not in DEPLOYMENTS[name]
