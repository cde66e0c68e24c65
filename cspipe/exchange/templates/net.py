"""Wrapper with which diffusers loads a net of this package; `cspipe.exchange.bundle` puts it below the net's code."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor


class Net(ModelMixin, ConfigMixin):
    """A net of this file as diffusers loads it; it is called like UNet2DModel, with times in 0..999."""

    @register_to_config
    def __init__(self, maker: str, arguments: dict[str, Any], in_channels: int, sample_size: int) -> None:
        """Make the net by calling `maker`, a class or function of this file, with `arguments`."""
        super().__init__()
        self.net = globals()[maker](**arguments)

    def forward(self, sample: Tensor, timestep: Tensor | float, return_dict: bool = True) -> Any:
        """Return the net's output for sample (N, in_channels, size, size) and timestep, a number or (N,)."""
        t = torch.as_tensor(timestep, device=sample.device).float().expand(len(sample)) + 1
        output = self.net(sample, t)
        return UNet2DOutput(sample=output) if return_dict else (output,)
