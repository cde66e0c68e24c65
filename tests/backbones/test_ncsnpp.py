"""NCSN++: it is EDM's net, and how its parts are joined."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from cspipe.backbones.ncsnpp import NCSNpp, fourier
from cspipe.backbones.songunet import SongUNet

NET: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "size": 16,
    "channels": 32,
    "blocks": 1,
    "multipliers": (2, 2, 2),
    "attention": (16,),
    "dropout": 0.13,
}


def test_is_the_net_of_edm_which_knows_time_otherwise(stir) -> None:
    """tests/exchange/test_from_edm.py has numbers of EDM's own. In its pyramid the filter follows the convolution."""
    ours, theirs = stir(NCSNpp(**NET)).eval(), SongUNet(**NET, arch="ncsnpp", precond="edm", levels=10).eval()
    theirs.time = ours.time
    state = {re.sub(r"(pyramid\.\d)\.1", r"\1.0", name): weight for name, weight in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([100.0, 900.0])
    torch.testing.assert_close(ours(x, t), theirs(x, t), rtol=1e-4, atol=1e-4)


def test_every_halving_is_joined_by_the_sum_that_stood_before(stir) -> None:
    net = stir(NCSNpp(**NET)).eval()
    seen: dict[str, Tensor] = {}
    for name in ("encoder.1", "encoder.3", "encoder.2"):
        module = net.get_submodule(name)
        module.register_forward_hook(
            lambda _module, given, out, name=name: seen.update({name: out, f"{name}<": given[0]})
        )
    x = torch.randn(1, 3, 16, 16)
    skips = net.descend(x, torch.randn(1, 128))
    first = (seen["encoder.1"] + net.pyramid[0](x)) / math.sqrt(2)
    second = (seen["encoder.3"] + net.pyramid[1](first)) / math.sqrt(2)
    torch.testing.assert_close(seen["encoder.2<"], first)  # it goes on from the sum, which is what the way up joins too
    torch.testing.assert_close(skips[2], first)
    torch.testing.assert_close(skips[4], second)
    assert len(skips) == 6


def test_fourier_frequencies_are_distributed_as_those_of_the_source() -> None:
    """Absolute values of a normal distribution of deviation 16, in turns per 1000 units of t."""
    turns = fourier(4000) * 1000 / (2 * math.pi) / 16
    assert (turns > 0).all()
    assert float(turns.square().mean()) == pytest.approx(1, rel=0.01)
    for deviations, share in ((0.5, 0.3829), (1.0, 0.6827), (2.0, 0.9545)):
        assert float((turns < deviations).float().mean()) == pytest.approx(share, abs=1e-3)
