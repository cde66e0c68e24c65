"""The mean training image, called like a net: the clean estimate of a state without signal (`terminal: mean`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mean(nn.Module):
    """Module that returns one image, whatever the state."""

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(in_channels, size, size), requires_grad=False)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the image, in [-1, 1], for each state of x_t (N, C, H, W); t (N,) is ignored."""
        return self.image.expand_as(x_t)
