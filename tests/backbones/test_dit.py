"""DiT: the parameters of its source, and how it starts."""

from __future__ import annotations

import torch

from cspipe.backbones.dit import DiT, GatedBlock
from cspipe.nets.blocks import count_parameters


def test_parameters_of_dit_s_2() -> None:
    """32.96 M: on latents of 4 x 32 x 32 with a learned variance; a table of 1000 labels and none is not in ours.

    The source counts its fixed positions too, 16 x 16 of 384 numbers.
    """
    shape = {"in_channels": 4, "out_channels": 8, "size": 32}
    with torch.device("meta"):
        net = DiT(**shape, channels=384, depth=12, head_channels=64, patch=2, dropout=0.0)
    labels, positions = 1001 * 384, 16 * 16 * 384
    assert net.positions.numel() == positions
    assert count_parameters(net) + labels + positions == 32_963_360


def test_blocks_start_as_the_identity_and_learn_at_once() -> None:
    """The gates alone are 0: were the branches too, neither would ever get a gradient."""
    block = GatedBlock(16, 8, 0.0)
    net = DiT(in_channels=3, out_channels=3, size=8, channels=16, depth=1, head_channels=8, patch=2, dropout=0.0)
    block.load_state_dict(net.blocks[0].state_dict())
    tokens, told = torch.randn(2, 5, 16), torch.randn(2, 16)
    out = block(tokens, told)
    assert torch.equal(out, tokens)
    out.square().sum().backward()
    gates = block.modulation.weight.grad.unflatten(0, (6, 16)).abs().amax((1, 2))
    assert (gates > 1e-3).tolist() == [False, False, True, False, False, True]


def test_knows_positions(stir) -> None:
    torch.manual_seed(0)
    net = stir(DiT(in_channels=3, out_channels=3, size=8, channels=16, depth=1, head_channels=8, patch=2, dropout=0.0))
    x = torch.randn(1, 3, 4, 4).repeat(1, 1, 2, 2)
    out = net(x, torch.tensor([500.0]))
    assert (out[..., :4] - out[..., 4:]).abs().max() > 1e-3
