"""The UNet2DModel of diffusers with any of its settings: for models from there, and for models that load there."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from cspipe.nets.backbone import BackboneSettings
from cspipe.nets.blocks import zeroed
from cspipe.runtime.errors import UserError

SHAPE = ("in_channels", "out_channels", "sample_size")
"""Keys of its configuration that the images decide."""


class UNet2D(nn.Module):
    """It counts times from 0, this package from 1."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError:
            raise UserError("model.name unet2d needs diffusers; `pip install 'cspipe[export]'` brings it") from None
        self.unet = UNet2DModel(**config)
        zeroed(self.unet.conv_out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, in_channels, size, size), t (N,) in 0..1000: (N, out_channels, size, size) in x's type."""
        out: Tensor = self.unet(x, t - 1).sample
        return out.to(x.dtype)


class Settings(BackboneSettings):
    """The arguments of UNet2DModel but for channels and size, under its names."""

    config: dict[str, JsonValue] = Field(description="arguments of diffusers' UNet2DModel")

    def check_size(self, size: int) -> None:
        """Whether such a net can be built and takes the size. Raises ValueError."""
        try:
            with torch.device("meta"):
                self.build(3, 3, size)(torch.empty(1, 3, size, size), torch.empty(1))
        except UserError:
            raise
        except Exception as error:  # its settings are checked by its parts, each in its own way
            raise ValueError(f"model.config makes no UNet2DModel of {size} pixels ({error})") from None

    def build(self, in_channels: int, out_channels: int, size: int) -> UNet2D:
        """UNet2DModel, whose output starts at 0."""
        return UNet2D(**self.config, **dict(zip(SHAPE, (in_channels, out_channels, size), strict=True)))
