"""The transformer: its positions."""

import torch

from cspipe.compensators.transformer import build


def test_transformer_knows_positions(stir) -> None:
    torch.manual_seed(0)
    net = stir(build(3, 3, 8, 16))
    x = torch.randn(1, 3, 4, 4).repeat(1, 1, 2, 2)
    out = net(x, torch.tensor([500.0]))
    assert (out[..., :4] - out[..., 4:]).abs().max() > 1e-2
