"""Compensators are light."""

import pytest
import torch

from cspipe.compensation import COMPENSATORS, CompensationSettings
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.registry import names_in


@pytest.mark.parametrize("net", names_in(COMPENSATORS))
def test_compensators_are_light(net: str) -> None:
    def size(width: int) -> int:
        with torch.device("meta"):
            settings = CompensationSettings(
                net=net, channels=width, epochs=1, batch=1, learning_rate=1e-3, loss="l2", states="forward"
            )
            return count_parameters(settings.build(3, 3, 32))

    assert 1e6 < size(64) < 8e6
    assert size(16) < 0.4e6
