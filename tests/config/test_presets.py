"""Presets: complete, sound, and nets of their kind work, with fewer channels than theirs."""

from __future__ import annotations

import pytest
import torch

from cspipe.config.overlays import preset_names, read_preset
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from tests.conftest import change

NEEDED = {
    "demo", "demo-inpaint", "demo-deocclude", "avatars64", "cifar10", "celeba64", "celebahq256", "ffhq256",
    "celebahq256-inpaint", "fsg-deocclude", "ffhq256-small",
}  # fmt: skip
NARROW = {"model.channels": 32, "model.head_channels": 32, "compensation.channels": 16, "compute.device": "cpu"}
OURS = ("demo", "avatars64")
"""Begin the names of presets on rendered faces, which say that their numbers are ours."""
DECISIVE = (
    "model", "model.dropout", "diffusion.steps", "diffusion.schedule", "diffusion.prediction", "train.images",
    "train.batch", "train.learning_rate", "train.ema_half_life", "sample.images",
)  # fmt: skip


def parsed(name: str, **changes: object) -> Params:
    return parse_params(change(read_preset(name).tree, changes), name)


def test_every_preset_that_was_asked_for_is_there() -> None:
    assert set(preset_names()) >= NEEDED


@pytest.mark.parametrize("name", preset_names())
def test_nets_of_a_preset_take_its_images_and_conditions(name: str) -> None:
    params = parsed(name, **NARROW)
    channels, size = params.data.channels, params.data.size
    condition = {"generate": 0, "inpaint": channels + 1, "deocclude": channels}[params.task]
    x, t = torch.zeros(1, channels + condition, size, size), torch.ones(1)
    with torch.no_grad():
        for section in (params.model, params.compensation):
            assert section.build(channels + condition, channels, size).eval()(x, t).shape == (1, channels, size, size)


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith(OURS)])
def test_numbers_of_a_paper_preset_name_their_source(name: str) -> None:
    """Those that decide a result come from no demo, and a comment says whose they are, or ours."""
    preset, demo = read_preset(name), read_preset("demo")
    assert [key for key in DECISIVE if preset.origins[key] == "demo"] == []
    assert [key for key in DECISIVE if preset.comments[key] in ("", demo.comments[key])] == []
    assert preset.tree["diffusion"]["steps"] == 100
    assert preset.tree["compensation"]["epochs"] == 1


def test_small_ffhq_preset_has_about_94_million_parameters() -> None:
    params = parsed("ffhq256-small")
    with torch.device("meta"):
        assert sum(p.numel() for p in params.model.build(3, 3, 256).parameters()) == pytest.approx(94e6, rel=0.01)
