"""`cspipe sample`: the pipeline's own images, of any model folder and of none that means harm."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from cspipe.cli.exchange import sample
from cspipe.cli.main import app
from cspipe.data.grid import grid
from cspipe.data.pixels import quantise
from cspipe.diffusion.ddim import ddim_sample
from cspipe.exchange.draw import variant_of
from cspipe.runtime.errors import UserError
from cspipe.runtime.models import save_model
from cspipe.samplers.fitted import FittedStep
from cspipe.stages.nets import MEAN, finished_denoiser
from cspipe.stages.sample import new_sampler
from tests.exchange.conftest import CPU, Stored, slow


@pytest.mark.parametrize("compensated", [slow(False), True])
def test_draws_what_the_stage_draws(stored: Stored, tmp_path: Path, compensated: bool) -> None:
    models, out = stored(), tmp_path / "grid.png"
    C = models / "compensation" if compensated else None
    sample(out, models / "main", "ddim", 5, 66, 3, C)
    denoise, config = finished_denoiser(CPU, models / "main")
    sampler = new_sampler(variant_of("ddim", 5, compensated), denoise, config, CPU, models / "compensation")
    expected = grid(sampler(list(range(3, 69))), 8, 8)
    assert np.abs(np.asarray(Image.open(out)).astype(int) - np.asarray(expected)).max() <= 1


def test_listed_timesteps_are_those_that_the_net_is_asked_at(stored: Stored, tmp_path: Path) -> None:
    main, asked = stored() / "main", []
    denoise, config = finished_denoiser(CPU, main)

    def drawn(steps: int | list[int], seeds: list[int]) -> NDArray[np.uint8]:
        return new_sampler(variant_of("ddim", steps, False), denoise, config, CPU)(seeds)

    denoise.net.net.register_forward_pre_hook(lambda _net, inputs: asked.append(float(inputs[1][0])))
    listed = drawn([10, 7, 1], [3, 4])
    assert asked == [1000, 700, 100]  # the net sees t in thousandths of T
    x_T = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    assert np.array_equal(listed, quantise(ddim_sample(denoise, x_T, [10, 7, 1, 0], denoise.schedule)))
    assert np.array_equal(drawn([10, 8, 6, 4, 2], [3]), drawn(5, [3]))
    args = ["sample", "-o", str(tmp_path / "grid.png"), "--model", str(main), "--n", "2", "--seed", "3"]
    assert CliRunner().invoke(app, [*args, "--steps", "10,7,1"], catch_exceptions=False).exit_code == 0
    assert np.array_equal(Image.open(tmp_path / "grid.png"), grid(listed, 2, 8))


def test_a_fitted_sampler_is_fitted_to_the_net_and_refuses_one_with_a_condition(stored: Stored) -> None:
    denoise, config = finished_denoiser(CPU, stored() / "main")
    variant = variant_of("fitted", [10, 4], False)
    assert isinstance(new_sampler(variant, denoise, config, CPU).step, FittedStep)
    with pytest.raises(UserError, match="inpaint"):
        new_sampler(variant, denoise, config | {"task": "inpaint"}, CPU)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sampler": "nope"}, "nope.*ddim"),
        ({"sampler": "ddpm", "compensation": "compensation"}, "eta must be 0"),
        ({"out": "grid.jpg"}, "grid.jpg"),
        slow({"steps": 11}, "11.*10"),
        slow({"steps": [9, 4]}, "9, 4.*10"),
        slow({"compensation": "main"}, "main"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_one_line(stored: Stored, options: dict[str, Any], match: str) -> None:
    models = stored()
    places = {key: models / options[key] for key in ("compensation", "out") if key in options}
    with pytest.raises(UserError, match=match) as error:
        sample(**{"out": models / "grid.png", "model": models / "main", "steps": 5, "n": 2, **options, **places})
    assert "\n" not in str(error.value)
    assert not list(models.glob("grid.*"))


def test_a_mean_image_of_other_images_is_told(stored: Stored, tmp_path: Path) -> None:
    folder = stored({"diffusion.prediction": "eps"}) / "main"
    denoise, config = finished_denoiser(CPU, folder)
    mean = nn.ParameterDict({"mean": torch.zeros(3, 4, 4)})
    save_model(folder, {"ema": denoise.net.net, "data": mean}, config)
    with pytest.raises(UserError, match=MEAN):
        sample(tmp_path / "grid.png", folder, steps=5)
