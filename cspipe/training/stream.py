"""An endless stream of training batches that can start at any image, each image with its condition."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.conditions import Conditions
from cspipe.data.pixels import normalise
from cspipe.data.seeds import derive_seed
from cspipe.runtime.device import Device
from cspipe.runtime.ranks import rank, world

BLOCK = 1024
"""Images read or copied to the device at a time."""
FIRST_STEPS = 2
"""Number of steps after which the memory that training needs is known: the second has the optimizer's states."""


class Images(Protocol):
    """A set of uint8 images that can be gathered in any order."""

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at `indices`, (len(indices), C, H, W)."""


class Batch(NamedTuple):
    """Images (N, C, H, W) in [-1, 1] on the device, and their conditions (N, K, H, W), None without a condition."""

    x0: Tensor
    condition: Tensor | None


@dataclass(frozen=True)
class TrainingSet:
    """Training images with the conditions that are drawn for them."""

    images: Images
    conditions: Conditions | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: NDArray[np.int64], device: Device, *purpose: str, first: int = 0, step: int = 1) -> Batch:
        """Return images in uint8, with conditions; the i-th condition has a seed from (purpose, first + i * step)."""
        pixels = self.images.gather(indices)
        if self.conditions is None:
            return Batch(device.upload(torch.from_numpy(pixels)), None)
        seeds = [derive_seed(self.seed, "condition", *purpose, first + i * step) for i in range(len(indices))]
        condition = self.conditions(indices, pixels, seeds)
        return Batch(device.upload(torch.from_numpy(pixels)), device.upload(torch.from_numpy(condition)))


def normalised(batch: Batch) -> Batch:
    """Convert a batch from uint8 0..255 to float32 in [-1, 1]."""
    return Batch(normalise(batch.x0), None if batch.condition is None else normalise(batch.condition))


def stream_indices(images: int, seed: int, start: int, length: int) -> NDArray[np.int64]:
    """Return indices at places start..start+length of a stream of passes over the images, each in another order."""
    places = np.arange(start, start + length)
    passes, offsets = places // images, places % images
    indices = np.empty(length, np.int64)
    for p in np.unique(passes):
        indices[passes == p] = _order(images, seed, int(p))[offsets[passes == p]]
    return indices


@lru_cache(maxsize=2)
def _order(images: int, seed: int, number: int) -> NDArray[np.int64]:
    """Return the order of the images in pass `number`."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, "order", number))).permutation(images)


def batches(data: TrainingSet, batch: int, seed: int, start: int, device: Device) -> Iterator[Batch]:
    """Yield normalised batches on the device without end, from place `start` of the stream; each rank gets its part.

    Images without conditions are all copied to the GPU if they fit into the memory free after FIRST_STEPS steps;
    otherwise the next batch is gathered while this one trains.
    """
    resident: Tensor | None = None

    def fetch(place: int) -> Batch:
        """Return the batch (uint8, on the device) that starts at `place` of the stream."""
        indices = stream_indices(len(data), seed, place, batch)[rank() :: world()]
        if resident is not None:
            return Batch(resident[device.upload(torch.from_numpy(indices))], None)
        return data.gather(indices, device, "train", first=place + rank(), step=world())

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(fetch, start)
        for number in count():
            ready = waiting.result()
            if number == FIRST_STEPS and data.conditions is None:
                resident = _whole(data.images, device)
            start += batch
            waiting = ahead.submit(fetch, start)
            yield normalised(ready)


def _whole(images: Images, device: Device) -> Tensor | None:
    """Copy all images to the device, in blocks, if they fit into its free memory; else return None."""
    one = images.gather(np.zeros(1, np.int64))
    if one.nbytes * len(images) > device.free_memory():
        return None
    whole = torch.empty((len(images), *one.shape[1:]), dtype=torch.uint8, device=device.device)
    for start in range(0, len(images), BLOCK):
        block = images.gather(np.arange(start, min(start + BLOCK, len(images))))
        whole[start : start + len(block)] = torch.from_numpy(block).to(device.device)
    return whole
