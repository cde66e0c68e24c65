"""Optimizer, learning rate and moving average: torch's own, counted in images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def adamw(net: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """AdamW in one fused kernel where the device has it (CPU and CUDA do)."""
    parameters = list(net.parameters())
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def rate_factor(seen: int, images: int, warmup: int, cooldown: float) -> float:
    """Factor on the step size after `seen` of `images`: up from 0 over `warmup` images, then 1, then down to 0.

    Both ways are linear; the way down takes the last fraction `cooldown` of training (Hagele et al. 2024).
    """
    up = (seen + 1) / max(warmup, 1)
    down = (images - seen) / max(cooldown * images, 1)
    return min(up, 1.0, down)


def moving_average(net: nn.Module, batch: int, half_life: int) -> AveragedModel:
    """EMA of the weights that forgets half after `half_life` images, updated once per batch."""
    decay = 0.5 ** (batch / half_life)
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is finite; waits for the device once."""
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
