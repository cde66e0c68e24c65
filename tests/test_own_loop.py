"""The program of docs/own-loop.md: the method in a loop of one's own."""

import re
from typing import Any

import pytest
import torch

from cspipe.diffusion.ddim import ddim_sample, evenly_spaced
from cspipe.diffusion.training_pair import plain_pair
from tests.conftest import ROOT

BLOCKS = re.findall("```python\n(.*?)```", (ROOT / "docs/own-loop.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    """What it leaves behind, run for two epochs on noise."""
    torch.manual_seed(0)
    names: dict[str, Any] = {"loader": [torch.rand(2, 3, 32, 32) * 2 - 1], "epochs": 2}
    exec("\n".join(BLOCKS), names)
    return names


def like_images(program: dict[str, Any]) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, device=program["device"]) * 2 - 1


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in net.parameters()])


def test_it_ends_with_images(program: dict[str, Any]) -> None:
    assert program["images"].shape == (4, 3, 32, 32)
    assert program["images"].isfinite().all()


def test_both_nets_learn_in_the_first_epoch_and_c_is_frozen_then(program: dict[str, Any]) -> None:
    x0 = like_images(program)
    for first_epoch in (True, False):
        nets = program["unet"], program["c_net"]
        before = [weights(net) for net in nets]
        program["train_step"](x0, first_epoch)
        moved = [not torch.equal(weights(net), old) for net, old in zip(nets, before, strict=True)]
        assert moved == [True, first_epoch]
    program["fit_step"](x0)
    assert not torch.equal(weights(program["c_net"]), before[1])


def test_at_the_last_timestep_the_pair_is_the_plain_one(program: dict[str, Any]) -> None:
    x0 = like_images(program)
    eps, T = torch.randn_like(x0), torch.full((2,), program["T"], device=x0.device)
    schedule, prediction = program["schedule"], program["PREDICTION"]
    x_t = program["add_noise"](x0, eps, T, schedule)
    made = program["compensated_pair"](x0, x_t, torch.zeros_like(x0), T, T, prediction, program["compensate"])
    for mine, plain in zip(made, plain_pair(prediction, x0, eps, T, schedule), strict=True):
        torch.testing.assert_close(mine, plain)


def test_without_compensation_it_samples_as_ddim_and_with_it_otherwise(program: dict[str, Any]) -> None:
    noise, times = torch.randn_like(like_images(program)), evenly_spaced(program["T"], 3)
    plain = program["sample"](noise, 3, False)
    torch.testing.assert_close(plain, ddim_sample(program["denoise"], noise, times, program["schedule"]))
    assert not torch.allclose(program["sample"](noise, 3, True), plain)
