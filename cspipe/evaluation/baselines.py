"""What an answer must be better than: the input as it is, the mean training picture, the nearest training picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.conditions import hole_of
from cspipe.evaluation.sources import Source

BLOCK_NUMBERS = 2**23
"""Numbers per block of pictures, 64 MiB as float64."""

Images = NDArray[np.uint8]


def baselines(task: str, conditions: Images, train: Source, device: torch.device) -> dict[str, Images]:
    """Answers (N, C, H, W) by name, for conditions (N, K, H, W) of inpaint or deocclude.

    "input": the picture as it is, grey in its hole. "mean": the mean training picture. "nearest": the training picture
    with the least squared difference on the known pixels. Of inpaint both are put into the hole alone; of deocclude
    all pixels are known, and all are replaced. Needs the memory of the answers and a few blocks.
    """
    if task == "inpaint":
        pictures, holes = conditions[:, :-1], hole_of(conditions)
        known = ~holes
    else:
        pictures, holes = conditions, np.ones_like(conditions[:, :1], np.bool_)
        known = holes
    answers = {"input": pictures.copy(), "mean": pictures.copy(), "nearest": pictures.copy()}
    if len(pictures):
        np.copyto(answers["mean"], mean_picture(train), where=holes)
        for chosen in _blocks(len(pictures), pictures[0].size):
            near = train.gather(nearest_known(pictures[chosen], known[chosen], train, device))
            np.copyto(answers["nearest"][chosen], near, where=holes[chosen])
    return answers


def mean_picture(train: Source) -> Images:
    """The mean of the training pictures, rounded: (C, H, W)."""
    size = train.gather(np.array([0]))[0].size
    blocks = (train.gather(np.arange(block.start, block.stop)) for block in _blocks(len(train), size))
    total = sum(block.sum(axis=0, dtype=np.int64) for block in blocks)
    mean: Images = np.rint(total / len(train)).astype(np.uint8)
    return mean


def nearest_known(pictures: Images, known: NDArray[np.bool_], train: Source, device: torch.device) -> NDArray[np.int64]:
    """For pictures (N, C, H, W), the number (N,) of the training picture nearest on the `known` pixels (N, 1, H, W).

    float64 holds the squares exactly, so neither device nor threads change the result; of equals the first is taken.
    """
    weights = _rows(known.repeat(pictures.shape[1], axis=1), device)
    queries = weights * _rows(pictures, device)
    least = torch.full((len(pictures),), torch.inf, dtype=torch.float64, device=device)
    numbers = torch.zeros(len(pictures), dtype=torch.int64, device=device)
    for block in _blocks(len(train), pictures[0].size):
        rows = _rows(train.gather(np.arange(block.start, block.stop)), device)
        distances, places = (weights @ rows.square().T - 2 * queries @ rows.T).min(dim=1)
        closer = distances < least
        least, numbers = torch.where(closer, distances, least), torch.where(closer, places + block.start, numbers)
    return numbers.cpu().numpy()


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` pictures of `size` numbers, BLOCK_NUMBERS at a time."""
    length = max(1, BLOCK_NUMBERS // size)
    return (slice(start, min(start + length, count)) for start in range(0, count, length))


def _rows(images: NDArray[np.uint8] | NDArray[np.bool_], device: torch.device) -> Tensor:
    """Pictures (N, C, H, W) as float64 rows (N, C*H*W)."""
    return torch.from_numpy(images.reshape(len(images), -1)).to(device).double()
