"""Exported folders, loaded by diffusers: our images for the same noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDIMPipeline, DiffusionPipeline, UNet2DModel
from torch import Tensor

from cspipe.exchange.diffusers_folder import write_diffusers
from cspipe.exchange.draw import variant_of
from cspipe.exchange.source import open_source
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from tests.conftest import MODELS
from tests.exchange.conftest import CPU, Stored, slow

WIDE = {"channels": 128, "blocks": 1, "multipliers": [1, 2], "attention": [4], "dropout": 0.1}
"""Every norm has 32 groups, as UNet2DModel wants it."""
STOCK = {"adm": {"name": "adm", **WIDE, "head_channels": 32}, "ddpm": {"name": "ddpm", **WIDE}}
TOLERANCE = {"eps": 5e-4, "x0": 1e-4, "v": 1e-4, "edm": 1e-4}
"""Of pixels in [-1, 1]; with eps the first estimate is a difference divided by sqrt(ab_T), here 0.001."""


def ours(models: Path, x_T: Tensor, steps: int, compensated: bool = False, told: Tensor | None = None) -> Tensor:
    """What `cspipe sample` draws from this noise, before it becomes uint8."""
    denoise, config = finished_denoiser(CPU, models / "main")
    sampler = new_sampler(variant_of("ddim", steps, compensated), denoise, config, CPU, models / "compensation")
    net, correction = sampler.net(told)
    return sample(net, x_T, sampler.step, SamplerState(sampler.schedule, sampler.path), correction).clamp(-1, 1)


def export(models: Path, compensated: bool = False) -> str:
    """Export to a folder beside the models; its path."""
    folder = models.parent / "exported"
    write_diffusers(open_source(models / "main", models / "compensation" if compensated else None), folder)
    return str(folder)


def noise(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def theirs(pipe: DiffusionPipeline, x_T: Tensor, steps: int, **options: object) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    seeds = torch.Generator().manual_seed(5)
    images = pipe(len(x_T), seeds, num_inference_steps=steps, output_type="pt", **options).images
    return images * 2 - 1


@pytest.mark.parametrize(
    ("name", "prediction"),
    [("adm", "v"), slow("adm", "eps"), slow("adm", "x0"), slow("ddpm", "eps"), slow("ddpm", "x0"), slow("ddpm", "v")],
)
def test_a_stock_pipeline_draws_our_images(stored: Stored, name: str, prediction: str) -> None:
    models = stored({"model": STOCK[name], "diffusion.prediction": prediction})
    pipe = DDIMPipeline.from_pretrained(export(models))
    assert type(pipe.unet) is UNet2DModel
    for steps in (10, 5):
        drawn = theirs(pipe, noise(), steps, use_clipped_model_output=True)
        expected = ours(models, noise(), steps)
        assert expected.std() > 0.1
        torch.testing.assert_close(drawn, expected, rtol=0, atol=TOLERANCE[prediction])


CUSTOM = {
    **{name: {"model": keys} for name, keys in MODELS.items()},
    "edm": {"diffusion.prediction": "edm", "diffusion.schedule": "karras"},
    "told of itself": {"diffusion.self_condition": True},
    "steps that do not divide 1000": {"diffusion.steps": 12},
    "resnet": {"compensation.net": "resnet"},
    "transformer": {"compensation.net": "transformer"},
    "stock": {"model": STOCK["adm"]},
}


@pytest.mark.parametrize("changes", [{}, *map(slow, CUSTOM.values())], ids=["demo", *CUSTOM])
def test_the_pipeline_inside_draws_our_compensated_images(stored: Stored, changes: dict) -> None:
    models = stored(changes)
    folder = export(models, compensated=True)
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    for compensated in (False, True):
        drawn = theirs(pipe, noise(), 5, compensation=float(compensated))
        torch.testing.assert_close(drawn, ours(models, noise(), 5, compensated), rtol=0, atol=1e-4)
    assert (drawn - theirs(pipe, noise(), 5, compensation=0.0)).abs().max() > 0.01


BLOCKED = """
import sys
sys.modules["cspipe"] = None
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], custom_pipeline=sys.argv[1], trust_remote_code=True)
print(pipe(2, num_inference_steps=2, output_type="np").images.shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_folder_is_complete_without_this_package(stored: Stored, model: str) -> None:
    folder = export(stored({"model": MODELS[model]}), compensated=True)
    done = subprocess.run([sys.executable, "-c", BLOCKED, folder], capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 8, 8, 3)\n", done.stderr


@pytest.mark.slow
def test_a_net_told_of_its_input_takes_it(stored: Stored) -> None:
    models = stored({"task": "inpaint"})
    folder, told = export(models, compensated=True), torch.rand(2, 4, 8, 8).round() * 2 - 1
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    expected = ours(models, noise(), 5, compensated=True, told=told)
    torch.testing.assert_close(theirs(pipe, noise(), 5, condition=told), expected, rtol=0, atol=1e-4)
