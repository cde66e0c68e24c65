"""Scores of results against the true images, pair by pair: uint8 (N, C, H, W) each.

PSNR, SSIM (Wang et al. 2004), mean absolute difference, and a perceptual distance, as means with bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from cspipe.evaluation.perceptual import Perceptual

Images = NDArray[np.uint8]
Scores = NDArray[np.float64]

PEAK = 255
ROUNDING = 1 / 12
"""Mean squared error of rounding to whole numbers, the least that `psnr` assumes: equal images get 58.9 dB."""
WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window, in pixels."""
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""Constants C1 and C2 of SSIM (Wang et al. 2004)."""
RESAMPLES, LEVEL = 1000, 95
"""Number of bootstrap resamples, and level of the intervals in percent."""


def paired_scores(
    results: Images, truths: Images, numbers: NDArray[np.int64], families: Sequence[str], perceptual: Perceptual
) -> dict[str, dict[str, dict[str, float]]]:
    """Return, for JSON, {"all": {"psnr": {"mean", "low", "high"}, "ssim", "l1", <perceptual.label>}, <family>: ...}.

    `families` has one name per pair; each is a key if there is more than one. `numbers` has the index of each pair's
    true image: results for the same image vary together, and are resampled together.
    """
    scores = {
        "psnr": psnr(results, truths),
        "ssim": ssim(results, truths),
        "l1": l1(results, truths),
        perceptual.label: perceptual(results, truths),
    }
    names = np.array(families)
    groups = {"all": np.ones(len(names), np.bool_)}
    if len(set(families)) > 1:
        groups |= {family: names == family for family in sorted(set(families))}
    return {
        group: {score: bootstrap(values[chosen], numbers[chosen]) for score, values in scores.items()}
        for group, chosen in groups.items()
    }


def bootstrap(values: Scores, numbers: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """Return the mean of values (N,), and the ends "low" and "high" of its 95 % interval.

    Images are resampled, not values: `numbers` (N,) says which values are of the same image.
    """
    _, places = np.unique(numbers, return_inverse=True)
    sums, counts = np.bincount(places, weights=values), np.bincount(places)
    rng = np.random.Generator(np.random.PCG64(seed))
    resamples = (rng.integers(len(sums), size=len(sums)) for _ in range(RESAMPLES))
    means = [sums[chosen].sum() / counts[chosen].sum() for chosen in resamples]
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def psnr(a: Images, b: Images) -> Scores:
    """Return the peak signal-to-noise ratio in dB, (N,), of the mean squared error, at least ROUNDING."""
    errors = [np.square(x.astype(np.float64) - y).mean() for x, y in zip(a, b, strict=True)]
    return 10 * np.log10(PEAK**2 / np.maximum(errors, ROUNDING))


def l1(a: Images, b: Images) -> Scores:
    """Return the mean absolute difference over all pixels and channels, (N,), in steps of 0..255."""
    return np.array([np.abs(x.astype(np.float64) - y).mean() for x, y in zip(a, b, strict=True)])


def ssim(a: Images, b: Images) -> Scores:
    """Return the structural similarity (N,), at most 1: the mean over channels and places where the window lies inside.

    Images smaller than WINDOW get the largest odd window that they hold.
    """
    side = (min(WINDOW, *a.shape[2:]) - 1) // 2 * 2 + 1
    weights = torch.exp(-(torch.arange(side, dtype=torch.float64) - side // 2).square() / (2 * SIGMA**2))
    weights /= weights.sum()

    def mean(x: Tensor) -> Tensor:
        """Return the means of (C, 1, H, W) under the window: along columns, then along rows."""
        return conv2d(conv2d(x, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))

    def similarity(a: Images, b: Images) -> float:
        """Return the structural similarity of one pair of images (C, H, W)."""
        x, y = (torch.from_numpy(image.astype(np.float64)).unsqueeze(1) for image in (a, b))
        mean_x, mean_y = mean(x), mean(y)
        variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
        covariance = mean(x * y) - mean_x * mean_y
        likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
        return float((likeness / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))).mean())

    return np.array([similarity(x, y) for x, y in zip(a, b, strict=True)])
