"""An endless stream of training batches that can start at any image."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.compute import Device
from cspipe.pixels import normalise
from cspipe.seeds import derive_seed

BLOCK = 1024
"""Images copied to the device at a time."""


class Images(Protocol):
    """A set of uint8 images that can be gathered in any order."""

    def __len__(self) -> int: ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (len(indices), C, H, W)."""


def stream_indices(count: int, seed: int, start: int, length: int) -> NDArray[np.int64]:
    """Places start..start+length of an endless stream: pass after pass over `count` images, each in its own order."""
    places = np.arange(start, start + length)
    passes, offsets = places // count, places % count
    indices = np.empty(length, np.int64)
    for p in np.unique(passes):
        order = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", int(p)))).permutation(count)
        indices[passes == p] = order[offsets[passes == p]]
    return indices


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


def batches(images: Images, batch: int, seed: int, start: int, device: Device) -> Iterator[Tensor]:
    """Yield float batches (batch, C, H, W) on the device, from place `start` of the stream on, without end.

    A set that fits the GPU's memory moves there whole; otherwise the next batch is gathered while this one trains.
    """
    resident = _whole(images, device)

    def fetch(place: int) -> Tensor:
        """The batch (uint8, on the device) that starts at a place of the stream."""
        indices = stream_indices(len(images), seed, place, batch)
        if resident is not None:
            return resident[device.upload(torch.from_numpy(indices))]
        return device.upload(torch.from_numpy(images.gather(indices)))

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(fetch, start)
        while True:
            ready = waiting.result()
            start += batch
            waiting = ahead.submit(fetch, start)
            yield normalise(ready)
