"""Steps on torch's meta device, where a wait for numbers or a tensor left on the CPU is an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from cspipe.config.params import Params
from cspipe.runtime.device import Device
from cspipe.runtime.registry import find, names_in
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SAMPLERS, SamplerState, find_step
from cspipe.stages.nets import new_denoiser, new_main
from cspipe.stages.train import new_trainer
from cspipe.training.loop import MetricMeter
from cspipe.training.settings import METHODS
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import Images, Tree

Make = Callable[..., Params]
CHANGES: dict[str, Tree] = {
    **{method: {"train.method": method} for method in names_in(METHODS)},
    "noise_control": {  # with all that a method can be combined with
        "train.method": "noise_control",
        "train.perturbation": 0.1,
        "train.micro_batch": 4,
        "train.compensation.cap": 1.0,
        "train.compensation.path": 5,
        "train.compensation.gap": 2,
        "diffusion.self_condition": True,
        "compensation.states": "reverse",
        "model.dropout": 0.1,
    },
}


class Meta(Device):
    """A device without numbers, for which torch has no autocast."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


class CpuGenerator(torch.Generator):
    """Torch has no generator for it either, but takes a CPU's there."""

    def __new__(cls, device: object = None) -> CpuGenerator:
        return super().__new__(cls)


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(torch, "Generator", CpuGenerator)
    return Meta(torch.device("meta"), torch.float32, compile=False)


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_training_step(changes: Tree, params: Make, images: Images, meta: Device) -> None:
    p = params({"train.compensation.share": 0.6, "train.compensation.fade": 0.0, **changes})
    trainer = new_trainer(p, TrainingSet(images), meta)
    batch = Batch(torch.empty(p.train.batch, 3, 8, 8, device="meta"), None)
    meter = MetricMeter(meta)
    for seen in (0, 8):
        meter.add(trainer.step(batch, seen))


@pytest.mark.parametrize("sampler", names_in(SAMPLERS))
def test_sampling(sampler: str, params: Make, meta: Device) -> None:
    p, x_T = params(), torch.empty(4, 3, 8, 8, device="meta")
    net = new_main(p, meta).requires_grad_(False)
    denoise, eta = new_denoiser(net, p.diffusion, meta), find(SAMPLERS, sampler, "ETAS")[1]
    state = SamplerState(denoise.schedule, [10, 7, 4, 1, 0], eta, lambda: torch.empty_like(x_T))
    sample(denoise, x_T, find_step(sampler), state, lambda x_s, x0_hat, t, s: x_s + x0_hat)
