"""What benchmarks/ measures is what it says, and one part that fails stops no other."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.peers import Sample, diffusers_training
from benchmarks.speed import Clock, Mode, preset, training_speed
from benchmarks.step_costs import step_costs
from cspipe.training.diffusion_trainer import DiffusionTrainer

CPU, PLAIN = torch.device("cpu"), Mode(torch.float32)
CLOCK = Clock(CPU, least=0.0)
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("measure", [partial(training_speed, matrices=1.0), slow(step_costs)], ids=["speed", "costs"])
def test_a_compensated_step_is_compensated(measure: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    step, seen = DiffusionTrainer.step, []

    def watched(*arguments: Any) -> dict:
        seen.append(step(*arguments))
        return seen[-1]

    monkeypatch.setattr(DiffusionTrainer, "step", watched)
    measure(preset("cifar10", {**gpu.METHODS["compensated"], **gpu.TINY}), PLAIN, clock=CLOCK)
    assert all(scalars["share"] > 0 and "module_loss" not in scalars for scalars in seen)


@pytest.mark.slow
def test_every_compiled_net_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However many came before: dynamo has a limit of graphs for a piece of code."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **how: compile_(net, **{**how, "backend": "eager"}))
    monkeypatch.setattr(gpu, "MODES", {"float32": Mode(torch.float32, compile=True)})
    widths = {str(width): {"train.method": "plain", "model.channels": width} for width in (16, 32)}
    monkeypatch.setattr(gpu, "METHODS", widths)
    monkeypatch.setattr(gpu, "TINY", {key: value for key, value in gpu.TINY.items() if key != "model.channels"})
    results = gpu.Results(tmp_path / "results.json")
    limit = {"recompile_limit": 1, "fail_on_recompile_limit_hit": True}
    with torch._dynamo.config.patch(limit):
        gpu.speed(results, Clock(CPU, least=0.0), smallest=True, deadline=float("inf"))
    cases = {name: value for name, value in results.found["speed"].items() if name.startswith("training")}
    assert len(cases) == 2
    assert all("images_per_second" in value for value in cases.values()), cases


@pytest.mark.parametrize("error", [AssertionError(), ZeroDivisionError("a / b\nmore")], ids=repr)
def test_what_fails_is_a_result_and_tried_again(error: Exception, tmp_path: Path) -> None:
    def fail() -> None:
        raise error

    results = gpu.Results(tmp_path / "results.json")
    results.once("part", "name", fail)
    assert type(error).__name__ in json.loads(results.file.read_text())["part"]["name"]["failed"]
    results.once("part", "name", lambda: {"seconds": 1})
    results.once("part", "name", fail)
    assert json.loads(results.file.read_text())["part"]["name"] == {"seconds": 1}


@pytest.mark.slow
def test_the_other_library_takes_micro_batches_and_is_counted_without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, seen = Sample.forward, set()

    def watched(net: Sample, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.add((x.device.type, len(x)))
        return forward(net, x, t)

    monkeypatch.setattr(Sample, "forward", watched)
    diffusers_training(preset("cifar10", {**gpu.TINY, "train.micro_batch": 2}), PLAIN, CLOCK, 1.0)
    assert seen == {("cpu", 2), ("meta", 1)}


def test_a_missing_archive_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--smallest", "--out", str(tmp_path / "out"), "--cifar", "nowhere.tar.gz"])
    with pytest.raises(SystemExit, match="nowhere"):
        gpu.main()
    assert not (tmp_path / "out").exists()
