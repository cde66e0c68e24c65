"""Pixels as files hold them (uint8) and as nets see them (float)."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise(images: Tensor) -> Tensor:
    """Convert uint8 0..255 to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def quantise(images: Tensor) -> Tensor:
    """Convert float to uint8 0..255, the inverse of `normalise`; values outside [-1, 1] are clipped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
