"""Presets: complete, sound, and nets of their kind work, with fewer channels than theirs."""

from __future__ import annotations

import pytest
import torch
import yaml

from cspipe.cli.main import preset_names, preset_text
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from cspipe.diffusion.schedule import SCHEDULES
from cspipe.nets.build import build_compensation, build_main
from cspipe.stages.nets import shape_of
from tests.conftest import change

NEEDED = {
    "demo", "demo-inpaint", "demo-deocclude", "avatars64", "cifar10", "celeba64", "celebahq256", "ffhq256",
    "celebahq256-inpaint", "fsg-deocclude", "ffhq256-small",
}  # fmt: skip
NARROW = {"model.channels": 32, "model.head_channels": 32, "compensation.channels": 16, "compute.device": "cpu"}
OURS = ("demo", "avatars64")
"""Begin the names of presets on rendered faces, which say that their numbers are ours."""


def parsed(name: str, **changes: object) -> Params:
    return parse_params(change(yaml.safe_load(preset_text(name)), changes), name)


def test_every_preset_that_was_asked_for_is_there() -> None:
    assert set(preset_names()) >= NEEDED


@pytest.mark.parametrize("name", preset_names())
def test_nets_of_a_preset_take_its_pictures_and_conditions(name: str) -> None:
    params = parsed(name, **NARROW)
    shape = shape_of({"channels": params.data.channels, "size": params.data.size, "task": params.task})
    told = {"generate": 0, "inpaint": params.data.channels + 1, "deocclude": params.data.channels}[params.task]
    assert shape["condition_channels"] == told
    x, t = torch.zeros(1, params.data.channels + told, params.data.size, params.data.size), torch.ones(1)
    with torch.no_grad():
        for net in (build_main(params.model, **shape), build_compensation(params.compensation, **shape)):
            assert net.eval()(x, t).shape == (1, params.data.channels, params.data.size, params.data.size)


@pytest.mark.parametrize("name", preset_names())
def test_schedule_of_a_preset_ends_in_noise(name: str) -> None:
    diffusion = parsed(name).diffusion
    assert diffusion.steps == 100
    assert float(SCHEDULES[diffusion.schedule](diffusion.steps).signal[-1] ** 2) < 1e-3


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith(OURS)])
def test_numbers_of_a_paper_preset_name_their_source(name: str) -> None:
    """Those that decide a result: training, net and schedule; a comment on the line says whose they are, or ours."""
    keys = ("blocks", "dropout", "steps", "schedule", "prediction", "images", "batch", "learning_rate", "ema_half_life")
    section = preset_text(name).split("\nmodel:")[1].split("\nsample:")[0].split("\ncompensation:")[0]
    lines = [line.strip() for line in f"blocks: # {section}".splitlines() if line.strip().startswith(keys)]
    assert [line for line in lines if "#" not in line and not line.startswith("blocks")] == []
    assert parsed(name).compensation.epochs == 1


def test_small_ffhq_preset_has_about_94_million_parameters() -> None:
    params = parsed("ffhq256-small")
    shape = shape_of({"channels": 3, "size": 256, "task": "generate"})
    with torch.device("meta"):
        assert sum(p.numel() for p in build_main(params.model, **shape).parameters()) == pytest.approx(94e6, rel=0.01)
