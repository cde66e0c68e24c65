"""SongUNet: the parameters of its source. What it computes is in tests/exchange/test_from_edm.py."""

import pytest
import torch

from cspipe.backbones.songunet import Settings
from cspipe.nets.blocks import count_parameters


@pytest.mark.parametrize(("arch", "count"), [("ddpmpp", 55_732_739), ("ncsnpp", 56_395_523)])
def test_parameters_of_cifar10(arch: str, count: int) -> None:
    """What EDM's own class counts for --arch of its training for CIFAR-10, without labels and augmentation."""
    keys = {"channels": 128, "blocks": 4, "multipliers": [2, 2, 2], "attention": [16], "dropout": 0.13}
    settings = Settings.model_validate({"name": "songunet", **keys, "arch": arch, "precond": "edm", "levels": 18})
    with torch.device("meta"):
        assert count_parameters(settings.build(3, 3, 32)) == count
