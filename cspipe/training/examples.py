"""What a net learns from: pictures, each with the condition that it is told of, if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.conditions import Conditions
from cspipe.data.pixels import normalise
from cspipe.data.seeds import derive_seed


class Images(Protocol):
    """A set of uint8 images that can be gathered in any order."""

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (len(indices), C, H, W)."""


class Batch(NamedTuple):
    """Images (N, C, H, W) in [-1, 1] on the device, and their conditions (N, K, H, W), None without a condition."""

    x0: Tensor
    condition: Tensor | None

    def normalised(self) -> Batch:
        """From uint8 0..255 to float32 in [-1, 1]."""
        return Batch(normalise(self.x0), None if self.condition is None else normalise(self.condition))

    def to(self, device: torch.device) -> Batch:
        """On a device."""
        return Batch(self.x0.to(device), None if self.condition is None else self.condition.to(device))


@dataclass(frozen=True)
class Examples:
    """A set of images with what is drawn for each of them."""

    images: Images
    conditions: Conditions | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, numbers: NDArray[np.int64], *purpose: str, first: int = 0) -> Batch:
        """The images `numbers` as uint8 on the host; the condition of the i-th is drawn for (purpose, first + i)."""
        pixels = self.images.gather(numbers)
        if self.conditions is None:
            return Batch(torch.from_numpy(pixels), None)
        seeds = [derive_seed(self.seed, "condition", *purpose, first + i) for i in range(len(numbers))]
        return Batch(torch.from_numpy(pixels), torch.from_numpy(self.conditions(numbers, pixels, seeds)))
