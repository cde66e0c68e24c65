"""Nets that are read back from models/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.config.params import Params
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.models import FILE, save_model
from cspipe.stages.nets import UNTOLD, finished_compensator, finished_denoiser, new_compensator, new_main
from tests.conftest import MODELS, Tree

GONE = "gone"


def stored(folder: Path, params: Params, **config: Any) -> torch.nn.Module:
    """A main net in a folder, as the train stage writes it, with these changes of its configuration (GONE: no key)."""
    net = new_main(params, open_device(params.compute))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    described = {"task": params.task, "channels": params.data.channels, "size": params.data.size}
    described |= {"model": params.model.model_dump(), "diffusion": params.diffusion.model_dump()}
    described |= {"train": {"method": "plain"}, "images_seen": 1, "seed": 0, "code": {}}
    save_model(folder, {"ema": net}, {key: value for key, value in {**described, **config}.items() if value != GONE})
    return net


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_main_net_is_read_back(params: Callable[..., Params], tmp_path: Path, model: Tree) -> None:
    chosen = params({"model": model, "diffusion.prediction": "x0"})
    net = stored(tmp_path, chosen).eval()
    denoise, config = finished_denoiser(open_device(chosen.compute), tmp_path)
    assert config["model"] == model
    x = 0.1 * torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = net(x, torch.tensor([1000.0, 1000.0])).clamp(-1, 1)
        torch.testing.assert_close(denoise(x, torch.tensor([10, 10])), expected)


ADM = MODELS["adm"]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model": {key: ADM[key] for key in ADM if key != "name"}}, "model.name: .*'adm'.* repro"),
        ({"model": {**ADM, "name": "../../x"}}, "model.name"),
        ({"model": {**ADM, "channels": 16 * 10**8}}, "weights 'ema'"),
        ({"model": {**ADM, "channels": 16 * 10**40}}, "weights 'ema'"),
        ({"model": {**ADM, "blocks": 10**9}}, "weights 'ema'"),
        ({"model": {**ADM, "multipliers": [1, 2, 2, 2, 2]}}, "weights 'ema'"),
        ({"model": {**MODELS["dit"], "depth": 10**9}}, "weights 'ema'"),
        ({"model": {**ADM, "all\nis well": 1}}, "model"),
        ({"model": GONE}, "model"),
        ({"diffusion": {"steps": 10**9}}, "diffusion.steps"),
        ({"task": "no\x1b[2Jtask"}, "task"),
        ({"task": "inpaint"}, "weights 'ema'"),
        ({"size": 8.0}, "size"),
        ({"size": 2**20}, "size"),
        ({"size": 9}, "size"),
        ({"train": {}}, "train.method"),
        ({"seed": -1}, "seed"),
    ],
)
def test_strange_configuration_of_a_main_net_is_one_line_that_names_its_key(
    params: Callable[..., Params], tmp_path: Path, config: Tree, named: str
) -> None:
    stored(tmp_path, params({"model": ADM}), **config)
    with pytest.raises(UserError, match=rf"^\S*{FILE}: .*{named}") as raised:
        finished_denoiser(open_device(params().compute), tmp_path)
    assert str(raised.value).isprintable()


def test_a_main_net_that_is_told_other_noise_levels_is_refused(params: Callable[..., Params], tmp_path: Path) -> None:
    song = MODELS["songunet"]
    stored(tmp_path, params({"model": song}), model={**song, "levels": 9})
    with pytest.raises(UserError, match=rf"{FILE}: model\.levels 9 .*diffusion\.steps.* 10"):
        finished_denoiser(open_device(params().compute), tmp_path)


def test_a_main_net_may_say_nothing_of_its_training(params: Callable[..., Params], tmp_path: Path) -> None:
    stored(tmp_path, params({"model": ADM}), **dict.fromkeys(UNTOLD, GONE))
    _, config = finished_denoiser(open_device(params().compute), tmp_path)
    assert {key: config[key] for key in UNTOLD} == UNTOLD


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"compensation": {}}, "compensation.net"),
        ({"compensation": GONE}, "compensation"),
        ({"task": "inpaint"}, "task inpaint"),
        ({"channels": 1}, "channels 1"),
    ],
)
def test_strange_configuration_of_a_compensator_too(
    params: Callable[..., Params], tmp_path: Path, config: Tree, named: str
) -> None:
    chosen = params()
    facts = {"task": "generate", "channels": 3, "size": 8}
    written = {**facts, "code": {}, "compensation": chosen.compensation.model_dump(), **config}
    device = open_device(chosen.compute)
    content = {key: value for key, value in written.items() if value != GONE}
    save_model(tmp_path, {"module": new_compensator(chosen, device)}, content)
    with pytest.raises(UserError, match=rf"^\S*{FILE}: .*{named}"):
        finished_compensator(device, 10, tmp_path, facts)
