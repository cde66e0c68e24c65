"""The U-Net: published sizes."""

import pytest
import torch

from cspipe.nets.blocks import count_parameters
from cspipe.nets.unet import UNet

# Millions of parameters of guided-diffusion's nets (six output channels: it learns the variance).
PUBLISHED = {
    "CIFAR-10": (32, 128, 3, (1, 2, 2, 2), (16, 8), 57.1),
    "CelebA-64": (64, 192, 3, (1, 2, 3, 4), (32, 16, 8), 295.1),
    "256 pixels": (256, 256, 2, (1, 1, 2, 2, 4, 4), (32, 16, 8), 552.8),
    "FFHQ-256, small": (256, 128, 1, (1, 1, 2, 2, 4, 4), (16,), 93.6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    size, channels, blocks, multipliers, attention, millions = PUBLISHED[name]
    with torch.device("meta"):
        net = UNet(
            in_channels=3,
            out_channels=6,
            size=size,
            channels=channels,
            blocks=blocks,
            multipliers=multipliers,
            attention=attention,
            head_channels=64,
            dropout=0.1,
        )
    assert round(count_parameters(net) / 1e6, 1) == millions
