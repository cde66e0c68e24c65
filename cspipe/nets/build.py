"""From params to nets."""

from __future__ import annotations

from typing import cast

from torch import nn

from cspipe.backbones import BackboneSettings
from cspipe.config import params
from cspipe.runtime.registry import find


def build_main(model: BackboneSettings, *, image_channels: int, condition_channels: int, size: int) -> nn.Module:
    """The net that predicts from an image of size x size pixels, which a condition may be joined to."""
    return model.build(image_channels + condition_channels, image_channels, size)


def build_compensation(
    compensation: params.Compensation, *, image_channels: int, condition_channels: int, size: int
) -> nn.Module:
    """The module C(x0h, t) that the params name; it starts as C = 0. Raises UserError if there is no such net."""
    build = find("cspipe.compensators", compensation.net, "build")
    return cast(nn.Module, build(image_channels + condition_channels, image_channels, size, compensation.channels))


def count_parameters(net: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
