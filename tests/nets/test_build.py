"""Nets from params: the sizes they have."""

import pytest
import torch

from cspipe.config.params import Compensation
from cspipe.nets.build import build_compensation, count_parameters
from cspipe.runtime.registry import names_in

MODULES = "cspipe.compensators"


@pytest.mark.parametrize("net", names_in(MODULES))
def test_modules_are_light(net: str) -> None:
    def size(width: int) -> int:
        with torch.device("meta"):
            settings = Compensation(
                net=net, channels=width, epochs=1, batch=1, learning_rate=1e-3, loss="l2", states="forward"
            )
            return count_parameters(build_compensation(settings, image_channels=3, condition_channels=0, size=32))

    assert 1e6 < size(64) < 8e6
    assert size(16) < 0.4e6
