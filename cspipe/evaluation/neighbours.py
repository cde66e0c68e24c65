"""Nearest training images of generated ones: whether the net copies what it was trained on."""

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
"""Numbers per block of training images, 128 MiB as float64."""


@dataclass(frozen=True)
class Neighbours:
    """The training images nearest to each of Q images, nearest first."""

    queries: NDArray[np.uint8]
    """(Q, C, H, W)."""
    indices: NDArray[np.int64]
    """(Q, k)."""
    distances: NDArray[np.float64]
    """(Q, k), Euclidean, over all pixels in 0..255."""


def nearest(queries: NDArray[np.uint8], train: ImageSource, k: int, device: torch.device) -> Neighbours:
    """The k images of `train`, or all if it has fewer, nearest to each query (Q, C, H, W), in constant memory.

    A mirrored copy is a copy too: a training image is as far as the nearer of itself and its mirror image. float64
    holds these whole numbers exactly, so neither device nor threads change the result; of equals the first comes first.
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
    """Images (N, C, H, W) as float64 rows (N, C*H*W)."""
    return torch.from_numpy(images.reshape(len(images), -1)).to(device).double()


def nearest_ratio(samples: Neighbours, held_out: Neighbours) -> float | None:
    """Median distance to the nearest training image, samples' over held-out images'.

    1: as far as images the net never saw; near 0: copies. None if held-out images are in the training set as well.
    """
    usual = float(np.median(held_out.distances[:, 0]))
    return float(np.median(samples.distances[:, 0])) / usual if usual > 0 else None


def sheet(samples: Neighbours, held_out: Neighbours, train: ImageSource, rows: int) -> Image.Image:
    """Rows of: a sample, its nearest training images, a gap, a held-out image, its nearest training images."""
    rows = min(rows, len(samples.queries), len(held_out.queries))
    left, right = _beside(samples, train, rows), _beside(held_out, train, rows)
    gap = np.full_like(left[:, :1], 255)
    cells = np.concatenate([left, gap, right], axis=1)
    return grid(cells.reshape(-1, *cells.shape[2:]), cells.shape[1], display_scale(cells.shape[-1]))


def _beside(found: Neighbours, train: ImageSource, rows: int) -> NDArray[np.uint8]:
    """The first images, each followed by its neighbours: (rows, 1 + k, C, H, W)."""
    images, indices = found.queries[:rows], found.indices[:rows]
    near = train.gather(indices.reshape(-1)).reshape(*indices.shape, *images.shape[1:])
    return np.concatenate([images[:, None], near], axis=1)
