"""Exported folders, loaded by diffusers: our images for the same noise."""

import subprocess
import sys
from pathlib import Path
from typing import Any

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


def ours(
    models: Path, x_T: Tensor, steps: int, compensated: bool = False, told: Tensor | None = None, terminal: str = "net"
) -> Tensor:  # fmt: skip
    """What the sample stage draws from this noise, before it becomes uint8."""
    denoise, config = finished_denoiser(CPU, models / "main")
    variant, folders = variant_of("ddim", steps, compensated, terminal), (models / "compensation", models / "main")
    sampler = new_sampler(variant, denoise, config, CPU, *folders)
    net, correction = sampler.net(told)
    state = SamplerState(sampler.schedule, sampler.path, terminal=sampler.terminal)
    return sample(net, x_T, sampler.step, state, correction).clamp(-1, 1)


def export(models: Path, compensated: bool = False, terminal: Any = None) -> str:
    folder = models.parent / "exported"
    source = open_source(models / "main", models / "compensation" if compensated else None, terminal)
    write_diffusers(source, folder)
    return str(folder)


def noise(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def theirs(pipe: DiffusionPipeline, x_T: Tensor, steps: int, **options: object) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    seeds = torch.Generator().manual_seed(5)
    images = pipe(len(x_T), seeds, num_inference_steps=steps, output_type="np", **options).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


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


FIRST = {
    "as a variant without words": ({"diffusion.prediction": "eps"}, None, "mean"),
    "asked for": ({"diffusion.self_condition": True}, "mean", "mean"),
    "refused": ({"diffusion.prediction": "eps"}, "net", "net"),
    "stock": ({"diffusion.prediction": "eps", "model": STOCK["ddpm"]}, None, "mean"),
}


@pytest.mark.parametrize(
    ("changes", "asked", "terminal"),
    [FIRST["as a variant without words"], *(slow(*FIRST[name]) for name in list(FIRST)[1:])],
    ids=FIRST,
)
def test_the_first_estimate_is_that_of_the_variant(
    stored: Stored, changes: dict, asked: str | None, terminal: str
) -> None:
    """And the page beside it says which it is."""
    models = stored(changes, mean=True)
    folder = export(models, compensated=True, terminal=asked)
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    for compensated in (False, True):
        drawn = theirs(pipe, noise(), 5, compensation=float(compensated))
        expected = ours(models, noise(), 5, compensated, terminal=terminal)
        torch.testing.assert_close(drawn, expected, rtol=0, atol=TOLERANCE["eps"])
    other = "net" if terminal == "mean" else "mean"
    assert (drawn - ours(models, noise(), 5, compensated, terminal=other)).abs().max() > 0.01
    assert f"`terminal: {terminal}`" in (Path(folder) / "README.md").read_text()


BLOCKED = """
import sys
sys.modules["cspipe"] = None
import torch
from diffusers import DiffusionPipeline
folder, noise, out = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
torch.save(pipe(2, num_inference_steps=5, output_type="pt", latents=torch.load(noise)).images, out)
"""


@pytest.mark.slow
@pytest.mark.parametrize("terminal", ["net", "mean"])
@pytest.mark.parametrize("model", MODELS)
def test_a_folder_is_complete_without_this_package(stored: Stored, tmp_path: Path, model: str, terminal: str) -> None:
    models = stored({"model": MODELS[model]}, mean=True)
    torch.save(noise(), tmp_path / "noise.pt")
    command = [sys.executable, "-c", BLOCKED, export(models, True, terminal), tmp_path / "noise.pt", tmp_path / "x.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    expected = ours(models, noise(), 5, compensated=True, terminal=terminal)
    torch.testing.assert_close(torch.load(tmp_path / "x.pt") * 2 - 1, expected, rtol=0, atol=1e-4)


def test_half_precision_is_autocast(stored: Stored) -> None:
    folder = export(stored({}), compensated=True)
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    exact = theirs(pipe, noise(), 5)
    with torch.autocast("cpu", torch.bfloat16):
        half = theirs(pipe, noise(), 5)
    assert 0 < float((half - exact).abs().max()) < 0.1
    with pytest.raises(ValueError, match="float32"):
        theirs(pipe.to(torch.bfloat16), noise(), 5)


@pytest.mark.slow
def test_a_stock_net_with_a_mean_image_is_still_one_of_diffusers(stored: Stored) -> None:
    models = stored({"model": STOCK["adm"], "diffusion.prediction": "eps"}, mean=True)
    drawn = theirs(DDIMPipeline.from_pretrained(export(models)), noise(), 5, use_clipped_model_output=True)
    torch.testing.assert_close(drawn, ours(models, noise(), 5), rtol=0, atol=TOLERANCE["eps"])


@pytest.mark.slow
def test_a_net_told_of_its_input_takes_it(stored: Stored) -> None:
    models = stored({"task": "inpaint"})
    folder, told = export(models, compensated=True), torch.rand(2, 4, 8, 8).round() * 2 - 1
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
    expected = ours(models, noise(), 5, compensated=True, told=told)
    torch.testing.assert_close(theirs(pipe, noise(), 5, condition=told), expected, rtol=0, atol=1e-4)
