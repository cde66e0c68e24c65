"""An endless stream of training batches that can start at any image."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.runtime.device import Device
from cspipe.training.examples import Batch, Examples, Images

BLOCK = 1024
"""Images copied to the device at a time."""


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


def batches(examples: Examples, batch: int, seed: int, start: int, device: Device) -> Iterator[Batch]:
    """Yield float batches on the device, from place `start` of the stream on, without end.

    Images without conditions that fit the GPU's memory move there whole; otherwise the next batch is gathered while
    this one trains.
    """
    images = examples.images
    resident = _whole(images, device) if examples.conditions is None else None

    def fetch(place: int) -> Batch:
        """The batch (uint8, on the device) that starts at a place of the stream."""
        indices = stream_indices(len(images), seed, place, batch)
        if resident is not None:
            return Batch(resident[device.upload(torch.from_numpy(indices))], None)
        pixels, condition = examples.gather(indices, "train", first=place)
        return Batch(device.upload(pixels), None if condition is None else device.upload(condition))

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(fetch, start)
        while True:
            ready = waiting.result()
            start += batch
            waiting = ahead.submit(fetch, start)
            yield ready.normalised()
