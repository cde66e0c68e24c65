"""What the tests of the nets share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def stir() -> Callable[[nn.Module], nn.Module]:
    """Move every parameter a little off its start, so that branches which start at 0 act."""

    def apply(net: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return net

    return apply
