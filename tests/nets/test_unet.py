"""The U-Net: published sizes, and where it attends."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cspipe.nets.attention import PixelAttention
from cspipe.nets.blocks import count_parameters
from cspipe.nets.unet import UNet

TINY: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "size": 16,
    "channels": 32,
    "blocks": 1,
    "multipliers": (1, 2, 2),
    "attention": (8,),
    "head_channels": 32,
    "dropout": 0.0,
}

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


@pytest.mark.parametrize(
    ("attention", "resolutions"),
    [((), []), ((16,), [16, 4, 16, 16]), ((8, 4), [8, 4, 4, 4, 4, 8, 8])],
)
def test_attends_at_the_named_resolutions_and_in_the_middle(attention: tuple[int, ...], resolutions: list[int]) -> None:
    net = UNet(**TINY | {"attention": attention})
    seen: list[int] = []
    for module in net.modules():
        if isinstance(module, PixelAttention):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-1]))
    net(torch.randn(1, 3, 16, 16), torch.tensor([500.0]))
    assert seen == resolutions
