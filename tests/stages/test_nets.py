"""Nets that are read back from models/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cspipe.config.params import Params
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.models import save_model
from cspipe.stages.nets import finished_denoiser, new_main
from tests.conftest import MODELS, Tree


def stored(folder: Path, params: Params, **config: Any) -> torch.nn.Module:
    """A main net in a folder, as the train stage writes it, with these changes of its configuration."""
    net = new_main(params, open_device(params.compute))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    described = {"task": params.task, "channels": params.data.channels, "size": params.data.size}
    described |= {"model": params.model.model_dump(), "diffusion": params.diffusion.model_dump(), **config}
    folder.mkdir()
    save_model(folder, {"ema": net}, described)
    return net


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_main_net_is_read_back(params: Callable[..., Params], tmp_path: Path, model: Tree) -> None:
    chosen = params({"model": model, "diffusion.prediction": "x0"})
    net = stored(tmp_path / "main", chosen).eval()
    denoise, config = finished_denoiser(open_device(chosen.compute), tmp_path / "main")
    assert config["model"] == model
    x = 0.1 * torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = net(x, torch.tensor([1000.0, 1000.0])).clamp(-1, 1)
        torch.testing.assert_close(denoise(x, torch.tensor([10, 10])), expected)


def test_a_main_net_of_another_version_is_told_with_what_to_do(params: Callable[..., Params], tmp_path: Path) -> None:
    keys = params().model.model_dump(exclude={"name"})
    stored(tmp_path / "main", params(), model=keys)
    message = r"main: the main net was trained by another version .*\(model.name: key is missing; it is 'adm', .* repro"
    with pytest.raises(UserError, match=message):
        finished_denoiser(open_device(params().compute), tmp_path / "main")
