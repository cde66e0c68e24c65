"""Optimizer, learning rate and moving average, with torch's implementations and lengths in images."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def adamw(net: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """Return AdamW, fused into one kernel where the device has it (CPU and CUDA do)."""
    parameters = list(net.parameters())
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def rate_factor(seen: int, images: int, warmup: int, cooldown: float) -> float:
    """Return the step-size factor after `seen` of `images`: up from 0 over `warmup` images, then 1, then down to 0.

    Both ramps are linear; the ramp down takes the last fraction `cooldown` of training (Hagele et al. 2024).
    """
    up = (seen + 1) / max(warmup, 1)
    down = (images - seen) / max(cooldown * images, 1)
    return min(up, 1.0, down)


class MovingAverage:
    """EMA of a net's weights that forgets half after `half_life` images, updated once per batch.

    It uses torch's update without AveragedModel, which waits for the GPU at every step to read a counter.
    """

    def __init__(self, net: nn.Module, batch: int, half_life: int) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self._weights = list(self.net.parameters())
        self._update = get_ema_multi_avg_fn(0.5 ** (batch / half_life))

    def update(self, weights: Sequence[Tensor]) -> None:
        """Update the average with the weights after a step, in the order of the net's parameters."""
        self._update(self._weights, [weight.detach() for weight in weights], None)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number of all tensors is finite; waits for the device once."""
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
