"""What a worker is sent: the stage must be one that dvc.yaml has, with its own inputs and outputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cspipe.runtime.errors import UserError
from flows.graph import Node, read_graph
from flows.stage_run import write_inputs
from tests.flows.test_handover import ENTRY
from tests.stages.conftest import new_repository

PIPELINE = """\
stages:
  prepare: {cmd: "true", outs: [data], meta: {pool: cpu}}
  train: {cmd: "true", deps: [data], params: [seed], metrics: [curve.json: {cache: false}], meta: {pool: gpu}}
"""
PARAMS, LOCK = "seed: 1\n", yaml.safe_dump({"schema": "2.0", "stages": {"prepare": ENTRY}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repo", {"dvc.yaml": PIPELINE, "params.yaml": "seed: 0\n"})


def train(root: Path) -> Node:
    return next(node for node in read_graph(root) if node.name == "train")


def test_a_stage_of_dvc_yaml_is_put_into_the_workspace(root: Path) -> None:
    write_inputs(root, train(root), PARAMS, LOCK)
    assert ((root / "params.yaml").read_text(), (root / "dvc.lock").read_text()) == (PARAMS, LOCK)


@pytest.mark.parametrize(
    "sent",
    [
        {"name": "train@x"},
        {"name": "--cd=/"},
        {"files": ("curve.json", "/etc/passwd")},
        {"files": ("../../mine",)},
        {"upstream": ("--help",)},
        {"data": ("../x.dvc",)},
    ],
)
def test_a_stage_with_other_inputs_or_outputs_is_refused(root: Path, sent: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="start the run again"):
        write_inputs(root, replace(train(root), **sent), PARAMS, LOCK)


@pytest.mark.parametrize("md5", ["../../../../../mine", "0" * 31, None])
def test_a_lock_whose_hashes_are_none_is_refused(root: Path, md5: str | None) -> None:
    """DVC looks for its cache's file of a hash: with such a one it removes files of others."""
    lock = {"schema": "2.0", "stages": {"prepare": {"cmd": "true", "outs": [{"path": "data", "md5": md5}]}}}
    with pytest.raises(UserError, match=r"dvc\.lock.*prepare"):
        write_inputs(root, train(root), PARAMS, yaml.safe_dump(lock))


def test_what_is_no_yaml_is_refused(root: Path) -> None:
    for params, lock in (("seed: [1", LOCK), (PARAMS, "stages: [1"), (PARAMS, "stages: 1")):
        with pytest.raises(UserError):
            write_inputs(root, train(root), params, lock)
