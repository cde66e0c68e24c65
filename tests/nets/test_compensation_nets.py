"""The compensation nets: sizes, registry, positions."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from cspipe import params
from cspipe.nets import count_parameters
from cspipe.nets.compensation import COMPENSATION_NETS, grid_waves


def test_params_and_registry_name_the_same_nets() -> None:
    assert set(get_args(params.Compensation.model_fields["net"].annotation)) == set(COMPENSATION_NETS)


@pytest.mark.parametrize("net", COMPENSATION_NETS)
def test_sizes_are_light(net: str) -> None:
    def size(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(COMPENSATION_NETS[net](3, 32, width))

    assert 1e6 < size(64) < 8e6
    assert size(16) < 0.4e6


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
    net = stir(COMPENSATION_NETS["transformer"](3, 8, 16))
    x = torch.randn(1, 3, 4, 4).repeat(1, 1, 2, 2)
    out = net(x, torch.tensor([500.0]))
    assert (out[..., :4] - out[..., 4:]).abs().max() > 1e-2
