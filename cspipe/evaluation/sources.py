"""Pictures by index, for sets that need not fit into memory."""

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


class Source(Protocol):
    """A set of uint8 pictures (C, H, W), C 1 or 3."""

    def __len__(self) -> int: ...

    @property
    def sha256(self) -> str:
        """A hash that changes with the pictures or their order."""

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures (len(indices), C, H, W)."""


@dataclass(frozen=True)
class ArraySource:
    """Pictures of an array (N, C, H, W) in memory or memory-mapped, with its hash."""

    images: NDArray[np.uint8]
    sha256: str

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures (len(indices), C, H, W)."""
        return self.images[indices]


@dataclass(frozen=True)
class Watched:
    """A source that tells, at every read, how many pictures are read: for work that goes through all of them."""

    source: Source
    on_read: Callable[[int], None]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def sha256(self) -> str:
        """The source's."""
        return self.source.sha256

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures (len(indices), C, H, W)."""
        self.on_read(len(indices))
        return self.source.gather(indices)


@dataclass(frozen=True)
class NoiseSource:
    """`count` pictures of independent uniform noise; each has its own seed, so none is kept in memory."""

    count: int
    shape: tuple[int, ...]
    """(C, H, W)."""
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    @property
    def sha256(self) -> str:
        """Hash of what determines the pictures."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures (len(indices), C, H, W)."""
        generators = [np.random.Generator(np.random.PCG64([self.seed, int(i)])) for i in indices]
        return np.stack([g.integers(0, 256, self.shape, np.uint8) for g in generators])


class Pictures(Dataset[Tensor]):
    """The first `limit` pictures of a source, or all if it has fewer, as torch-fidelity reads them: uint8 (3, H, W)."""

    def __init__(self, source: Source, limit: int, on_read: Callable[[int], None] | None = None) -> None:
        """on_read is told how many pictures were just read, to show progress."""
        self.source, self.on_read = source, on_read
        self.count = min(limit, len(source))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """A batch, gathered at once (the data loader calls this); grey is repeated in three channels."""
        images = self.source.gather(np.asarray(indices, np.int64))
        if self.on_read is not None:
            self.on_read(len(indices))
        return list(torch.from_numpy(images).expand(-1, 3, -1, -1))
