"""Grids of images as PNG files whose bytes depend on the pixels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def grid(images: NDArray[np.uint8], columns: int, scale: int = 1, gap: int = 1) -> Image.Image:
    """Lay out images (N, C, H, W), C 1 or 3, row by row on white; every pixel becomes scale x scale."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    height, width = height * scale, width * scale
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return Image.fromarray(canvas)


def comparison(
    inputs: NDArray[np.uint8], results: NDArray[np.uint8], truths: NDArray[np.uint8], pairs: int = 2
) -> Image.Image:
    """Lay out input, result, truth and |result - truth|, each (N, C, H, W), side by side; `pairs` of these in a row.

    A gap separates those in the same row.
    """
    error = np.abs(results.astype(np.int16) - truths).astype(np.uint8)
    gap = np.full_like(results, 255)
    cells = np.stack([inputs, results, truths, error, gap], axis=1)
    scale = display_scale(results.shape[-1])
    pairs = min(pairs, len(cells))
    rows = cells[: len(cells) // pairs * pairs]
    shown = grid(rows.reshape(-1, *results.shape[1:]), 5 * pairs, scale)
    return shown.crop((0, 0, shown.width - results.shape[-1] * scale - 1, shown.height))  # without the last gap


def save_png(image: Image.Image, path: Path) -> None:
    """Write a PNG without metadata: same pixels, same bytes."""
    image.save(path, format="PNG", optimize=False)


def display_scale(size: int) -> int:
    """Largest whole factor that brings an image of `size` pixels to 64 or fewer on screen; 1 for larger images."""
    return max(1, 64 // size)
