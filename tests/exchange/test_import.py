"""Foreign nets, made here with random weights, read back: what the source's own forward pass gives.

guided-diffusion and DDPM's ports are in no package: their nets are written out here from their papers' code, with their
names of weights and their order of queries, keys and values.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import Tensor, nn

from cspipe.cli.exchange import import_model
from cspipe.exchange.draw import variant_of
from cspipe.runtime.errors import UserError
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from tests.exchange.conftest import CPU
from tests.exchange.reference import Guided, OldDDPM

TUTORIAL = {
    "sample_size": 16, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
"""Not this project's nets: other groups of norms, other heads."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """pipeline(config of the scheduler): the folder of a pipeline with random weights."""

    def make(**config: Any) -> Path:
        torch.manual_seed(0)
        config = {"clip_sample": True, "timestep_spacing": "trailing", **config}
        DDIMPipeline(UNet2DModel(**TUTORIAL), DDIMScheduler(**config)).save_pretrained(tmp_path / "theirs")
        return tmp_path / "theirs"

    return make


@pytest.mark.parametrize(
    ("config", "schedule", "prediction"),
    [
        ({}, "linear", "eps"),
        ({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}, "cosine", "v"),
        ({"prediction_type": "sample"}, "linear", "x0"),
    ],
)
def test_a_pipeline_of_diffusers_draws_the_same_images(
    pipeline: Callable[..., Path], tmp_path: Path, config: dict, schedule: str, prediction: str
) -> None:
    folder = pipeline(**config)
    import_model(folder, tmp_path / "main")
    denoise, stored = finished_denoiser(CPU, tmp_path / "main")
    assert (stored["diffusion"]["schedule"], stored["diffusion"]["prediction"]) == (schedule, prediction)
    sampler = new_sampler(variant_of("ddim", 10, compensated=False), denoise, stored, CPU)
    x_T = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net, _ = sampler.net(None)
    drawn = sample(net, x_T, sampler.step, SamplerState(sampler.schedule, sampler.path)).clamp(-1, 1)
    theirs = DDIMPipeline.from_pretrained(folder)
    options = {"num_inference_steps": 10, "use_clipped_model_output": True, "output_type": "pt"}
    images = theirs(2, torch.Generator().manual_seed(0), **options).images
    torch.testing.assert_close(drawn, images * 2 - 1, rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", ["safetensors", "pt"])
@pytest.mark.parametrize("make", [Guided, OldDDPM])
def test_weights_alone_give_the_same_estimates(
    make: type[nn.Module], form: str, tmp_path: Path, stir: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    theirs, file = stir(make()).eval(), tmp_path / f"theirs.{form}"
    if form == "pt":
        torch.save(theirs.state_dict(), file)
    else:
        save_file(theirs.state_dict(), file)
    import_model(file, tmp_path / "main", size=16)
    denoise, config = finished_denoiser(CPU, tmp_path / "main")
    assert config["model"]["attention"] == [8]
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([1, 438, 1000])
    with torch.no_grad():
        expected = theirs(x, (t - 1).float())[:, :3]
        assert expected.std() > 0.1
        torch.testing.assert_close(denoise.output(x, t), expected, rtol=1e-4, atol=1e-4)
