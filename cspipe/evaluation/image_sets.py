"""Sets of images that are read by index, and need not fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset


class ImageSource(Protocol):
    """A set of uint8 images (C, H, W), C 1 or 3, such as Shards."""

    def __len__(self) -> int: ...

    @property
    def sha256(self) -> str:
        """A hash that changes with the images or their order."""

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices, uint8 (len(indices), C, H, W)."""


@dataclass(frozen=True)
class NoiseSource:
    """`count` images of independent uniform noise; each is drawn from its own seed, so none is kept in memory."""

    count: int
    shape: tuple[int, ...]
    """Shape of an image, (C, H, W)."""
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    @property
    def sha256(self) -> str:
        """Hash of the number, shape and seed, which determine the images."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices, uint8 (len(indices), C, H, W)."""
        generators = [np.random.Generator(np.random.PCG64([self.seed, int(i)])) for i in indices]
        return np.stack([g.integers(0, 256, self.shape, np.uint8) for g in generators])


class ImageSet(Dataset[Tensor]):
    """The first `limit` images of a source, or all if it has fewer; `on_read` gets the number of images of every read.

    It is an ImageSource, and a data set for torch-fidelity: items are uint8 (3, H, W), grey repeated in three channels.
    """

    def __init__(
        self, source: ImageSource, limit: int | None = None, on_read: Callable[[int], object] = lambda images: None
    ) -> None:
        self.source, self.on_read = source, on_read
        self.count = len(source) if limit is None else min(limit, len(source))

    def __len__(self) -> int:
        return self.count

    @property
    def sha256(self) -> str:
        """Hash of the whole source, whatever the limit."""
        return self.source.sha256

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these indices, uint8 (len(indices), C, H, W)."""
        self.on_read(len(indices))
        return self.source.gather(indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """Return a batch of items, gathered at once (the data loader calls this)."""
        images = self.gather(np.asarray(indices, np.int64))
        return list(torch.from_numpy(images).expand(-1, 3, -1, -1))
