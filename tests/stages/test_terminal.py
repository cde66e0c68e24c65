"""The first estimate of sampling: the mean of the training images in place of the net's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cspipe.config.params import Params
from cspipe.data.conditions import masked
from cspipe.data.pixels import quantise
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import clean_estimate
from cspipe.diffusion.schedule import Schedule, cosine_schedule
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.models import save_model
from cspipe.runtime.registry import find, names_in
from cspipe.sampling.state import SAMPLERS
from cspipe.stages.nets import finished_denoiser, new_compensator, new_main
from cspipe.stages.sample import new_sampler
from cspipe.stages.train import new_trainer
from cspipe.training.stream import TrainingSet
from tests.conftest import Images, Tree

Make = Callable[..., Params]
SEEDS = [0, 1, 2]
CS = {"reads": "models", "correction": {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None}}
SCALED = {"correction": {"name": "epsilon_scaling", "base": 1.02, "slope": 0.0}}


def noisy(net: nn.Module) -> nn.Module:
    """Off its start, where it gives 0."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return net


def drawn(p: Params, folder: Path, mean: torch.Tensor | None, inputs: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Images of the variant ddim-100 of nets that are stored in a folder."""
    device, data = open_device(p.compute), nn.Module()
    data.register_buffer("mean", mean)
    about = {"task": p.task, "channels": 3, "size": 8, "model": p.model.model_dump()}
    for name, weights, config in (
        ("main", {"ema": noisy(new_main(p, device)), "data": data}, {"diffusion": p.diffusion.model_dump()}),
        ("C", {"module": noisy(new_compensator(p, device))}, {"compensation": p.compensation.model_dump()}),
    ):
        (folder / name).mkdir(exist_ok=True)
        save_model(folder / name, weights, {**about, **config})
    denoise, config = finished_denoiser(device, folder / "main")
    return new_sampler(p.variants["ddim-100"], denoise, config, device, folder / "C", folder / "main")(SEEDS, inputs)


def variant(**changes: object) -> Tree:
    return {f"variants.ddim-100.{key}": value for key, value in changes.items()}


@pytest.mark.parametrize(
    "changes",
    [
        *(
            variant(sampler=name, eta=find(SAMPLERS, name, "ETAS")[0])
            for name in names_in(SAMPLERS)
            if name != "fitted"
        ),  # whose weights are not those of an estimate
        variant(**CS),
        variant(**CS, sampler="heun"),
        variant(**SCALED),
        variant(repaint={"rounds": 2, "masks": ["half"]}),
        {"task": "inpaint"},
        {"task": "deocclude", "condition.occluders": ["scarf"], **variant(**CS)},
        {"diffusion.self_condition": True},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values())[:40],
)
def test_first_estimate_is_the_mean_image(changes: Tree, params: Make, tmp_path: Path) -> None:
    """A walk of one step ends at its first estimate; what is known of an image comes back as it was given."""
    mean = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1
    expected, inputs = np.broadcast_to(quantise(mean).numpy(), (3, 3, 8, 8)), None
    p = params({"diffusion.prediction": "eps", **variant(steps=1, terminal="mean"), **changes})
    if p.task != "generate" or p.variants["ddim-100"].repaint is not None:
        inputs = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
        if p.task != "deocclude":
            hole = np.arange(8)[:, None] < np.full((3, 1, 1, 8), 4)
            inputs = masked(inputs, hole)
            expected = np.where(hole, expected, inputs[:, :3])
    np.testing.assert_array_equal(drawn(p, tmp_path, mean, inputs), expected)
    asked = params({"diffusion.prediction": "eps", **variant(steps=1, terminal="net"), **changes})
    assert not np.array_equal(drawn(asked, tmp_path, mean, inputs), expected)


def test_a_self_conditioned_net_sees_the_mean_at_the_second_step(params: Make, tmp_path: Path) -> None:
    p = params({"diffusion.self_condition": True, **variant(steps=2, terminal="mean")})
    mean, device = torch.linspace(-1, 1, 192).reshape(3, 8, 8), open_device(p.compute)
    samples = drawn(p, tmp_path, mean, None)
    x_T = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    t, s, means = torch.full((3,), 10), torch.full((3,), 5), mean.expand(3, 3, 8, 8)
    denoise, _ = finished_denoiser(device, tmp_path / "main")
    x_s = ddim_step(x_T, means, t, s, denoise.schedule)
    np.testing.assert_array_equal(samples, quantise(denoise.with_self_cond(means)(x_s, s)))
    assert not np.array_equal(samples, quantise(denoise(x_s, s)))


def test_a_net_stored_without_a_mean_image_samples_from_its_own_estimate_alone(params: Make, tmp_path: Path) -> None:
    drawn(params(), tmp_path, None, None)
    with pytest.raises(UserError, match=r"model.safetensors: has no data.mean.* terminal: net in params.yaml"):
        drawn(params(variant(terminal="mean")), tmp_path, None, None)


@pytest.mark.parametrize("flip", [True, False])
def test_stored_mean_is_that_of_what_the_net_is_trained_on(flip: bool, params: Make, images: Images) -> None:
    p = params({"train.flip": flip})
    trainer = new_trainer(p, TrainingSet(images), open_device(p.compute))
    seen = np.concatenate([images.pixels, images.pixels[..., :: -1 if flip else 1]])
    np.testing.assert_allclose(trainer.mean_image(), seen.mean(0) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("steps", "excess"), [(10, 0.024), (20, 0.006), (100, 0.0002)])
def test_a_clipped_first_estimate_adds_a_pattern_of_signs(steps: int, excess: float, e: torch.Tensor) -> None:
    """What the mean replaces: an eps-net that is off by 1 % at T (Lin et al. 2023), after its first DDIM step."""
    schedule: Schedule = cosine_schedule(100)
    t, s = torch.full((8,), 100), torch.full((8,), 100 - 100 // steps)
    x0_hat = clean_estimate("eps", 0.99 * e, e, t, schedule)
    assert (x0_hat.abs() == 1).double().mean() > 0.9
    added = ddim_step(e, x0_hat, t, s, schedule) - ddim_step(e, torch.zeros_like(e), t, s, schedule)
    assert added.var() == pytest.approx(excess, rel=0.2)
