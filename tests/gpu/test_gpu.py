"""Training and sampling on the device: against the CPU, against float32 and eager, resumed, and without waiting."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cspipe.config.params import Params
from cspipe.runtime import energy
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.registry import find, names_in
from cspipe.sampling.state import SAMPLERS
from cspipe.stages.sample import new_sampler
from cspipe.stages.train import new_trainer
from cspipe.training.diffusion_trainer import DiffusionTrainer
from cspipe.training.loop import Plan, run
from cspipe.training.optim import MovingAverage
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import MODELS, Images, Tree

pytestmark = pytest.mark.gpu
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU; there is none here")
Make = Callable[..., Params]
CPU = torch.device("cpu")
COMPENSATED = {"train.compensation.share": 0.6, "train.compensation.fade": 0.0}


KERNELS = {"ordered": True, **({"fastest": False} if torch.cuda.is_available() else {})}
"""compute.deterministic: the presets take the fastest."""


@pytest.fixture(params=KERNELS.values(), ids=KERNELS)
def device(params: Make, request: pytest.FixtureRequest) -> Device:
    """The GPU if there is one, in float32 without TF32: what is compared are our steps, not the rounding."""
    found = open_device(params({"compute.device": "auto", "compute.deterministic": request.param}).compute)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    return found


def new(p: Params, images: Images, device: Device) -> DiffusionTrainer:
    """A trainer whose net is moved off its start, where its output is 0."""
    trainer = new_trainer(p, TrainingSet(images), device)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trainer.net.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator).to(device.device)
    return trainer


def batch_of(images: Images, count: int, device: Device) -> Batch:
    return Batch((torch.from_numpy(images.pixels[:count]).float() / 127.5 - 1).to(device.device), None)


def gradient(trainer: DiffusionTrainer, batch: Batch) -> Tensor:
    """Of a plain loss at given states and timesteps, as one vector on the CPU."""
    x0 = batch.x0
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)).to(x0.device)
    t = torch.arange(len(x0), device=x0.device) % 10 + 1
    (trainer.denoise(x0 + eps, t) - x0).square().mean().backward()
    return torch.cat([weight.grad.flatten().cpu() for weight in trainer.net.parameters() if weight.grad is not None])


def distance(a: Tensor, b: Tensor) -> float:
    """Of vectors, relative to the second."""
    return float((a - b).norm() / b.norm())


@on_cuda
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_float32_equals_the_cpu(model: Tree, params: Make, images: Images, device: Device) -> None:
    p = params({"model": {**model, "dropout": 0.0}})
    nets = [new(p, images, place) for place in (device, Device(CPU, torch.float32, compile=False))]
    ours, theirs = (gradient(net, batch_of(images, 8, net.denoise.net.device)) for net in nets)
    assert distance(ours, theirs) < 1e-4


@on_cuda
@pytest.mark.parametrize("sampler", [name for name in names_in(SAMPLERS) if not find(SAMPLERS, name, "ETAS")[0]])
def test_samples_equal_the_cpus(sampler: str, params: Make, images: Images, device: Device) -> None:
    """Without noise on the way, whose numbers a GPU draws otherwise: within one of 255, but for a few pixels."""
    both = [drawn(sampler, params, images, place) for place in (device, Device(CPU, torch.float32, compile=False))]
    apart = np.abs(both[0].astype(int) - both[1])
    assert np.mean(apart <= 1) > 0.999


def drawn(sampler: str, params: Make, images: Images, device: Device, batches: int = 1) -> np.ndarray:
    """Eight images of a net off its start, in so many batches."""
    p = params({"variants.ddim-100.sampler": sampler, "variants.ddim-100.eta": find(SAMPLERS, sampler, "ETAS")[0]})
    denoise = new(p, images, device).denoise
    config = {"channels": 3, "size": 8, "task": "generate"}
    sample = new_sampler(p.variants["ddim-100"], denoise, config, device)
    return np.concatenate([sample(seeds.tolist()) for seeds in np.split(np.arange(8), batches)])


@pytest.mark.parametrize("sampler", names_in(SAMPLERS) if torch.cuda.is_available() else ["ddpm", "unipc"])
def test_an_image_does_not_depend_on_its_batch(sampler: str, params: Make, images: Images, device: Device) -> None:
    whole, parts = (drawn(sampler, params, images, device, batches) for batches in (1, 4))
    assert np.mean(np.abs(whole.astype(int) - parts) <= 1) > 0.999


def test_bfloat16_is_near_float32(params: Make, images: Images, device: Device) -> None:
    lower = Device(device.device, torch.bfloat16, compile=False)
    rough, fine = (gradient(new(params(), images, d), batch_of(images, 8, d)) for d in (lower, device))
    assert 0 < distance(rough, fine) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_compiled_net_equals_eager(model: Tree, params: Make, images: Images, device: Device) -> None:
    p = params({"model": {**model, "dropout": 0.0}})
    compiled, eager = (new(p, images, Device(device.device, torch.float32, compile=c)) for c in (True, False))
    ours, theirs = (gradient(trainer, batch_of(images, 8, device)) for trainer in (compiled, eager))
    assert distance(ours, theirs) < 1e-4


def test_a_fading_share_needs_a_fixed_number_of_graphs(
    params: Make, images: Images, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of either net one in training; without gradient up to four, for quarters of a batch, and one of C, the small."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda net, **how: compile_(net, backend="eager", **how))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fading = {"train.compensation.share": 1.0, "train.compensation.fade": 1.0}
    p = params({**fading, "train.images": 128, "model.multipliers": [2], "model.attention": []})
    devices = [Device(device.device, torch.float32, compile=c) for c in (True, False)]
    trainers = [new_trainer(p, TrainingSet(images), each) for each in devices]
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for seen in range(0, 128, 8):
            losses = [trainer.step(batch_of(images, 8, device), seen)["loss"] for trainer in trainers]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 7
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)


@on_cuda
def test_resumed_training_is_the_same_bit_for_bit(params: Make, images: Images, device: Device, tmp_path: Path) -> None:
    if not torch.are_deterministic_algorithms_enabled():
        pytest.skip("the fastest kernels differ in their last digits")
    p = params({**COMPENSATED, "model.dropout": 0.3})
    ends = []
    for folder, stops in (("whole", [48]), ("parts", [24, 48])):
        for stop in stops:
            trainer, plan = new_trainer(p, TrainingSet(images), device), Plan(stop, 8, 16, 8, p.seed)
            states = Checkpoints(tmp_path / folder, "key")
            run(trainer, TrainingSet(images), plan, device, states, "test", lambda seen, values: None)
        ends.append([*trainer.net.parameters(), *trainer.ema.net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_moving_average_is_that_of_its_formula(device: Device) -> None:
    net = torch.nn.Linear(3, 2, device=device.device)
    average, expected = MovingAverage(net, batch=8, half_life=16), net.weight.detach().clone()
    for _ in range(5):
        with torch.no_grad():
            net.weight += 1
        average.update(list(net.parameters()))
        expected = 0.5**0.5 * expected + (1 - 0.5**0.5) * net.weight.detach()
    assert torch.allclose(average.net.weight, expected, atol=1e-6)


@on_cuda
@pytest.mark.parametrize("changes", [COMPENSATED, {"train.method": "plain"}], ids=["compensated", "plain"])
def test_a_step_does_not_wait_for_the_gpu(changes: Tree, params: Make, images: Images, device: Device) -> None:
    trainer, batch = new_trainer(params(changes), TrainingSet(images), device), batch_of(images, 8, device)
    trainer.step(batch, 0)  # the first sets up kernels and the optimizer
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(batch, 8)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_cuda
def test_energy_of_a_gpu_is_counted(device: Device) -> None:
    if energy.joules() is None:
        pytest.skip("this GPU has no counter")
    before, a = energy.joules(), torch.ones(4096, 4096, device=device.device)
    for _ in range(200):
        a = a @ a / 4096
    torch.cuda.synchronize()
    assert 0 <= before < energy.joules()
