"""Baselines of inpainting and de-occlusion: the input as it is, the mean and the nearest training image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cspipe.data.conditions import hole_of
from cspipe.evaluation.image_sets import ImageSource
from cspipe.evaluation.neighbours import rows_of

BLOCK_NUMBERS = 2**23
"""Values per block of images, 64 MiB as float64."""

SEARCHED = 32
"""Side of the reduced images among which the nearest is searched, in pixels, at least."""

Images = NDArray[np.uint8]


def baselines(task: str, conditions: Images, train: ImageSource, device: torch.device) -> dict[str, Images]:
    """Return the baselines (N, C, H, W) by name, for conditions (N, K, H, W) of inpaint or deocclude.

    "input": the image as it is, grey in its hole. "mean": the mean training image. "nearest": the training image
    with the least squared difference on the known pixels. Of inpaint the last two fill only the hole; of
    deocclude all pixels are known, and all are replaced. Needs the memory of the baselines and of a few blocks.
    """
    if task == "inpaint":
        images, holes = conditions[:, :-1], hole_of(conditions)
        known = ~holes
    else:
        images, holes = conditions, np.ones_like(conditions[:, :1], np.bool_)
        known = holes
    answers = {"input": images.copy(), "mean": images.copy(), "nearest": images.copy()}
    if len(images):
        np.copyto(answers["mean"], mean_image(train), where=holes)
        numbers = nearest_known(images, known, train, device)
        for chosen in _blocks(len(images), images[0].size):
            np.copyto(answers["nearest"][chosen], train.gather(numbers[chosen]), where=holes[chosen])
    return answers


def mean_image(train: ImageSource) -> Images:
    """Return the mean of the training images, rounded: uint8 (C, H, W)."""
    size = train.gather(np.array([0]))[0].size
    blocks = (train.gather(np.arange(block.start, block.stop)) for block in _blocks(len(train), size))
    total = sum(block.sum(axis=0, dtype=np.int64) for block in blocks)
    mean: Images = np.rint(total / len(train)).astype(np.uint8)
    return mean


def nearest_known(
    images: Images, known: NDArray[np.bool_], train: ImageSource, device: torch.device
) -> NDArray[np.int64]:
    """Return the indices (N,) of the training images nearest to images (N, C, H, W) on the `known` pixels (N, 1, H, W).

    Images with sides of twice SEARCHED pixels and more are compared as sums over squares of pixels, so that details do
    not decide; a square is known if all its pixels are. The training set is read once. float64 holds the squared sums
    exactly, so neither device nor threads change the result; of equally near images the first is chosen.
    """
    side = max(1, images.shape[-1] // SEARCHED)
    whole = _sums(known.astype(np.int32), side) == side**2
    weights = rows_of(whole.repeat(images.shape[1], axis=1), device)
    queries = weights * rows_of(_sums(images, side), device)
    least = torch.full((len(images),), torch.inf, dtype=torch.float64, device=device)
    numbers = torch.zeros(len(images), dtype=torch.int64, device=device)
    for block in _blocks(len(train), images[0].size):
        rows = rows_of(_sums(train.gather(np.arange(block.start, block.stop)), side), device)
        distances, places = (weights @ rows.square().T - 2 * queries @ rows.T).min(dim=1)
        closer = distances < least
        least, numbers = torch.where(closer, distances, least), torch.where(closer, places + block.start, numbers)
    return numbers.cpu().numpy()


def _sums(images: NDArray[Any], side: int) -> NDArray[np.int64]:
    """Sum images (N, C, H, W) over squares of `side` pixels; a remainder at the right and lower edge is left out."""
    n, channels, height, width = images.shape
    rows, columns = height // side, width // side
    cut = images[:, :, : rows * side, : columns * side].reshape(n, channels, rows, side, columns, side)
    sums: NDArray[np.int64] = cut.sum((3, 5), dtype=np.int64)
    return sums


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Iterate over slices that cover `count` images of `size` values, at most BLOCK_NUMBERS values each."""
    length = max(1, BLOCK_NUMBERS // size)
    return (slice(start, min(start + length, count)) for start in range(0, count, length))
