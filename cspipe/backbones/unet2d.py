"""The UNet2DModel of diffusers with any of its settings, for models that come from diffusers or load in it."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from cspipe.nets.backbone import BackboneSettings
from cspipe.nets.blocks import zeroed
from cspipe.runtime.errors import UserError

SHAPE = ("in_channels", "out_channels", "sample_size")
"""Keys of UNet2DModel's configuration that the images decide."""


class UNet2D(nn.Module):
    """UNet2DModel with times counted from 1, as in this package; diffusers counts them from 0."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError:
            raise UserError("model.name unet2d needs diffusers; `pip install 'cspipe[export]'` brings it") from None
        self.unet = UNet2DModel(**config)
        zeroed(self.unet.conv_out)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x (N, in_channels, size, size), t (N,) in 0..1000 to (N, out_channels, size, size) in x's type."""
        out: Tensor = self.unet(x, t - 1).sample
        return out.to(x.dtype)


class Settings(BackboneSettings):
    """Settings of UNet2D: the arguments of UNet2DModel under their names there, except channels and size."""

    config: dict[str, JsonValue] = Field(description="arguments of diffusers' UNet2DModel")

    def check_size(self, size: int) -> None:
        """Check that the net can be built and takes images of size x size pixels. Raises ValueError."""
        try:
            with torch.device("meta"):
                self.build(3, 3, size)(torch.empty(1, 3, size, size), torch.empty(1))
        except UserError:
            raise
        except Exception as error:  # its settings are checked by its parts, each in its own way
            raise ValueError(f"model.config makes no UNet2DModel of {size} pixels ({error})") from None

    def build(self, in_channels: int, out_channels: int, size: int) -> UNet2D:
        """Build UNet2DModel, whose output starts at 0."""
        return UNet2D(**self.config, **dict(zip(SHAPE, (in_channels, out_channels, size), strict=True)))
