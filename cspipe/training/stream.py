"""An endless stream of training batches that can start at any image, each image with its condition."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.conditions import Conditions
from cspipe.data.pixels import normalise
from cspipe.data.seeds import derive_seed
from cspipe.runtime.device import Device

BLOCK = 1024
"""Images copied to the device at a time."""


class Images(Protocol):
    """A set of uint8 images that can be gathered in any order."""

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (len(indices), C, H, W)."""


class Batch(NamedTuple):
    """Images (N, C, H, W) in [-1, 1] on the device, and their conditions (N, K, H, W), None without a condition."""

    x0: Tensor
    condition: Tensor | None


@dataclass(frozen=True)
class TrainingSet:
    """Images with what is drawn for each of them."""

    images: Images
    conditions: Conditions | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: NDArray[np.int64], device: Device, *purpose: str, first: int = 0) -> Batch:
        """These images, not normalised yet; the condition of the i-th is drawn for (purpose, first + i)."""
        pixels = self.images.gather(indices)
        if self.conditions is None:
            return Batch(device.upload(torch.from_numpy(pixels)), None)
        seeds = [derive_seed(self.seed, "condition", *purpose, first + i) for i in range(len(indices))]
        condition = self.conditions(indices, pixels, seeds)
        return Batch(device.upload(torch.from_numpy(pixels)), device.upload(torch.from_numpy(condition)))


def normalised(batch: Batch) -> Batch:
    """From uint8 0..255 to float32 in [-1, 1]."""
    return Batch(normalise(batch.x0), None if batch.condition is None else normalise(batch.condition))


def stream_indices(count: int, seed: int, start: int, length: int) -> NDArray[np.int64]:
    """Places start..start+length of an endless stream: pass after pass over `count` images, each in another order."""
    places = np.arange(start, start + length)
    passes, offsets = places // count, places % count
    indices = np.empty(length, np.int64)
    for p in np.unique(passes):
        indices[passes == p] = _order(count, seed, int(p))[offsets[passes == p]]
    return indices


@lru_cache(maxsize=2)
def _order(count: int, seed: int, p: int) -> NDArray[np.int64]:
    """The order of pass p, kept: a batch meets two passes at most."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, "order", p))).permutation(count)


def batches(data: TrainingSet, batch: int, seed: int, start: int, device: Device) -> Iterator[Batch]:
    """Yield normalised batches on the device, from place `start` of the stream on, without end.

    Images without conditions that fit the GPU's memory move there whole; otherwise the next batch is gathered while
    this one trains.
    """
    resident = _whole(data.images, device) if data.conditions is None else None

    def fetch(place: int) -> Batch:
        """The batch (uint8, on the device) that starts at a place of the stream."""
        indices = stream_indices(len(data), seed, place, batch)
        if resident is not None:
            return Batch(resident[device.upload(torch.from_numpy(indices))], None)
        return data.gather(indices, device, "train", first=place)

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(fetch, start)
        while True:
            ready = waiting.result()
            start += batch
            waiting = ahead.submit(fetch, start)
            yield normalised(ready)


def _whole(images: Images, device: Device) -> Tensor | None:
    """The set in the device's memory if it fits, copied in blocks; else None."""
    one = images.gather(np.zeros(1, np.int64))
    if one.nbytes * len(images) > device.free_memory():
        return None
    whole = torch.empty((len(images), *one.shape[1:]), dtype=torch.uint8, device=device.device)
    for start in range(0, len(images), BLOCK):
        block = images.gather(np.arange(start, min(start + BLOCK, len(images))))
        whole[start : start + len(block)] = torch.from_numpy(block).to(device.device)
    return whole
