"""Training images nearest to generated ones: they show whether the net copies its training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cspipe.data.grid import display_scale, grid
from cspipe.evaluation.image_sets import ImageSource

BLOCK_NUMBERS = 2**24
"""Values per block of training images, 128 MiB as float64."""


@dataclass(frozen=True)
class Neighbours:
    """The training images nearest to each of Q images, nearest first."""

    queries: NDArray[np.uint8]
    """Images whose neighbours these are, (Q, C, H, W)."""
    indices: NDArray[np.int64]
    """Indices of the neighbours in the training set, (Q, k)."""
    distances: NDArray[np.float64]
    """Distances to the neighbours, (Q, k): Euclidean, over all pixels in 0..255."""


def nearest(queries: NDArray[np.uint8], train: ImageSource, k: int, device: torch.device) -> Neighbours:
    """Find the k images of `train`, or all if it has fewer, nearest to each query (Q, C, H, W), in constant memory.

    A mirrored copy is a copy too: the distance to a training image is the smaller of those to itself and to its mirror
    image. float64 holds the squared distances, whole numbers, exactly, so neither device nor threads change the result;
    of equally near images the first comes first.
    """
    q = rows_of(queries, device)
    block = max(1, BLOCK_NUMBERS // q.shape[1])
    squared = torch.empty(len(q), 0, dtype=torch.float64, device=device)
    indices = torch.empty(len(q), 0, dtype=torch.int64, device=device)
    for start in range(0, len(train), block):
        numbers = np.arange(start, min(start + block, len(train)))
        images = train.gather(numbers)
        rows, mirrored = rows_of(images, device), rows_of(images[..., ::-1], device)
        overlap = torch.maximum(q @ rows.T, q @ mirrored.T)
        new = q.square().sum(1, keepdim=True) - 2 * overlap + rows.square().sum(1)
        squared, order = torch.cat([squared, new], 1).sort(dim=1, stable=True)
        squared, order = squared[:, :k], order[:, :k]
        indices = torch.cat([indices, torch.from_numpy(numbers).to(device).expand(len(q), -1)], 1).gather(1, order)
    return Neighbours(queries, indices.cpu().numpy(), squared.sqrt().cpu().numpy())


def rows_of(images: NDArray[np.generic], device: torch.device) -> Tensor:
    """Convert images (N, C, H, W) to float64 rows (N, C*H*W) on a device."""
    return torch.from_numpy(images.reshape(len(images), -1)).to(device).double()


def nearest_ratio(samples: Neighbours, held_out: Neighbours) -> float | None:
    """Return the median distance to the nearest training image, that of samples over that of held-out images.

    1: as far as images the net never saw; near 0: copies. None if held-out images are in the training set as well.
    """
    usual = float(np.median(held_out.distances[:, 0]))
    return float(np.median(samples.distances[:, 0])) / usual if usual > 0 else None


def sheet(samples: Neighbours, held_out: Neighbours, train: ImageSource, rows: int) -> Image.Image:
    """Draw rows of a sample, its nearest training images, a gap, a held-out image, its nearest training images."""
    rows = min(rows, len(samples.queries), len(held_out.queries))
    left, right = _beside(samples, train, rows), _beside(held_out, train, rows)
    gap = np.full_like(left[:, :1], 255)
    cells = np.concatenate([left, gap, right], axis=1)
    return grid(cells.reshape(-1, *cells.shape[2:]), cells.shape[1], display_scale(cells.shape[-1]))


def _beside(found: Neighbours, train: ImageSource, rows: int) -> NDArray[np.uint8]:
    """Return the first `rows` queries, each followed by its neighbours: (rows, 1 + k, C, H, W)."""
    images, indices = found.queries[:rows], found.indices[:rows]
    near = train.gather(indices.reshape(-1)).reshape(*indices.shape, *images.shape[1:])
    return np.concatenate([images[:, None], near], axis=1)
