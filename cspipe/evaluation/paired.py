"""How near pictures are to the ones they should be, pair by pair: uint8 (N, C, H, W) each.

PSNR, SSIM (Wang et al. 2004), mean absolute difference, and a perceptual distance; means with bootstrap intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cspipe.evaluation.perceptual import Perceptual

Images = NDArray[np.uint8]
Scores = NDArray[np.float64]

PEAK = 255
ROUNDING = 1 / 12
"""Mean squared error of rounding to whole numbers: what equal pictures are still given, 58.9 dB."""
WINDOW, SIGMA = 11, 1.5
"""Pixels: side and deviation of SSIM's window."""
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
"""SSIM's constants."""
RESAMPLES, LEVEL = 1000, 95
"""Of the bootstrap; the level in percent."""


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_scores(
    results: Images, truths: Images, pictures: NDArray[np.int64], families: Sequence[str], perceptual: Perceptual
) -> dict[str, dict[str, dict[str, float]]]:
    """Intervals for JSON: {"all": {"psnr": {"mean", "low", "high"}, "ssim", "l1", <perceptual.label>}, <family>: ...}.

    `families` has one name per pair; they are told apart only if there is more than one. `pictures` has a number per
    pair: results of the same picture vary together, and are resampled together.
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
        group: {score: asdict(bootstrap(values[chosen], pictures[chosen])) for score, values in scores.items()}
        for group, chosen in groups.items()
    }


def bootstrap(values: Scores, pictures: NDArray[np.int64], seed: int = 0) -> Interval:
    """The mean of (N,) values, with percentiles of the means of resamples of the pictures (N,) that they are of.

    Raises ValueError if there are none.
    """
    if not len(values):
        raise ValueError("the mean of nothing")
    _, places = np.unique(pictures, return_inverse=True)
    sums, counts = np.bincount(places, weights=values), np.bincount(places)
    rng = np.random.Generator(np.random.PCG64(seed))
    resamples = (rng.integers(len(sums), size=len(sums)) for _ in range(RESAMPLES))
    means = [sums[chosen].sum() / counts[chosen].sum() for chosen in resamples]
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def psnr(a: Images, b: Images) -> Scores:
    """Peak signal to noise ratio in dB, (N,), of the squared error over all pixels and channels, at least ROUNDING."""
    errors = [max(ROUNDING, np.square(_difference(x, y)).mean()) for x, y in zip(a, b, strict=True)]
    return np.array([10 * math.log10(PEAK**2 / error) for error in errors])


def l1(a: Images, b: Images) -> Scores:
    """Mean absolute difference in steps of 0..255, (N,): over all pixels and channels."""
    return np.array([np.abs(_difference(x, y)).mean() for x, y in zip(a, b, strict=True)])


def ssim(a: Images, b: Images) -> Scores:
    """Structural similarity, at most 1, (N,): the mean over channels and over places where the window lies inside.

    Pictures smaller than WINDOW take the largest odd window that they hold.
    """
    side = min(WINDOW, *a.shape[2:])
    places = np.arange(side - 1 + side % 2) - (side - 1) // 2
    weights = np.exp(-np.square(places) / (2 * SIGMA**2))
    window = weights / weights.sum()
    return np.array([_ssim_map(x, y, window).mean() for x, y in zip(a, b, strict=True)])


def _ssim_map(x: Images, y: Images, window: Scores) -> Scores:
    """Similarity of two pictures (C, H, W) at every place of the window."""
    p, q = x.astype(np.float64), y.astype(np.float64)
    mean_p, mean_q = _blur(p, window), _blur(q, window)
    var_p, var_q = _blur(p * p, window) - mean_p**2, _blur(q * q, window) - mean_q**2
    covariance = _blur(p * q, window) - mean_p * mean_q
    likeness = (2 * mean_p * mean_q + C1) * (2 * covariance + C2)
    return likeness / ((mean_p**2 + mean_q**2 + C1) * (var_p + var_q + C2))


def _blur(x: Scores, window: Scores) -> Scores:
    """Weighted means of (C, H, W) under the square of a window of length k: (C, H - k + 1, W - k + 1).

    Sums in a fixed order, which a matrix product does not promise.
    """
    for axis in (1, 2):
        first = np.moveaxis(x, axis, 0)
        length = len(first) - len(window) + 1
        total = sum((weight * first[start:][:length] for start, weight in enumerate(window)), np.zeros(()))
        x = np.moveaxis(total, 0, axis)
    return x


def _difference(x: Images, y: Images) -> Scores:
    return x.astype(np.float64) - y
