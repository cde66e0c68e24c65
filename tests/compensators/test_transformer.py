"""The transformer: its positions."""

from __future__ import annotations

import torch

from cspipe.compensators.transformer import build
from cspipe.nets.blocks import grid_waves


def test_positions_differ_and_rows_are_columns_transposed() -> None:
    side, width = 5, 32
    grid = grid_waves(side, width)
    apart = torch.cdist(grid, grid) + 10 * torch.eye(side * side)
    assert apart.min() > 0.1
    square = grid.reshape(side, side, width)
    swapped = torch.cat([square[..., width // 2 :], square[..., : width // 2]], 2)
    assert torch.equal(swapped, square.transpose(0, 1))


def test_transformer_knows_positions(stir) -> None:
    torch.manual_seed(0)
    net = stir(build(3, 3, 8, 16))
    x = torch.randn(1, 3, 4, 4).repeat(1, 1, 2, 2)
    out = net(x, torch.tensor([500.0]))
    assert (out[..., :4] - out[..., 4:]).abs().max() > 1e-2
