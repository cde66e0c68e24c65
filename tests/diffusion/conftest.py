"""A schedule and random images in float64, where identities hold to rounding."""

import pytest
import torch
from torch import Tensor

from cspipe.diffusion.schedule import SCHEDULES, Schedule


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULES[request.param](100)


@pytest.fixture
def x0() -> Tensor:
    """Images (8, 3, 4, 4) in [-1, 1]."""
    return torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


@pytest.fixture
def e() -> Tensor:
    return torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
