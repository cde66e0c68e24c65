"""Whether a finished model still draws and scores as it did, or differs by more than chance explains.

Samples of the same seeds are compared pixel by pixel. Scores of fresh seeds are one more draw from what earlier draws
of the same model (repeats) came from; if nothing changed, a score lies in Student's prediction interval of them,
mean +- t s sqrt(1 + 1/n), as often as the interval says (Hahn and Meeker, Statistical Intervals, 1991, section 4.7).
That holds for normal noise. The noise of KID near 0 is skewed, and one set in fifty may then be outside of an interval
meant for all but one in a thousand; so an alarm counts only if a second set of fresh seeds, drawn then, is one too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["regressed", "inconclusive", "improved", "same"]
VERDICTS: tuple[Verdict, ...] = ("regressed", "inconclusive", "improved", "same")
"""The worst first."""
BETTER = {"kid": -1, "frechet": -1, "precision": 1, "recall": 1}
"""The scores that are judged; whether higher (1) or lower (-1) is better."""
FALSE_ALARM = 0.001
"""Chance that a set of a model that did not change looks regressed, all its scores together, if the noise is normal;
with the second set, an upper bound for a night with the noise of real scores too (a test measures it)."""
USUAL = 0.95
"""Share of nights without a change in which a score is within the band that counts as the same."""
FEWEST = 4
"""Repeats below which nothing is said."""
BLIND = 0.25
"""Half width of the band, in units of the score's scale, from which it is too wide to have seen anything."""
TOLERANCE = 0.01
"""Of a score's scale: how much another device may change it for the same samples."""
LEVELS = 1.0
"""Of 255, on average over all values: how much another device may change samples of the same seeds."""


@dataclass(frozen=True)
class Band:
    """Where scores of fresh seeds lie if nothing changed."""

    repeats: int
    mean: float
    usual: float
    """Half width of the interval that holds the usual share of nights; infinite with fewer than two repeats."""
    alarm: float
    """Half width of the interval outside of which a score is an alarm."""


@dataclass(frozen=True)
class Difference:
    """How samples of the same seeds differ."""

    images: int
    changed: int
    """How many of the images differ at all."""
    levels: float
    """Mean absolute difference of their values, 0 to 255."""


def compare_images(then: NDArray[np.uint8], now: NDArray[np.uint8]) -> Difference:
    """Compare images (N, C, H, W) of the same seeds. Raises ValueError if the shapes differ."""
    if then.shape != now.shape:
        raise ValueError(f"images {then.shape} cannot be compared with {now.shape}")
    changed, total = 0, 0
    for a, b in zip(then, now, strict=True):  # one at a time: then may be a memory map of 50,000
        gap = int(np.abs(a.astype(np.int16) - b).sum())
        changed, total = changed + (gap > 0), total + gap
    return Difference(len(then), changed, total / max(then.size, 1))


def scales(bracket: Mapping[str, float]) -> dict[str, float]:
    """What a change of each score is measured in: noise minus held-out pictures for the distances, 1 for shares."""
    distances = {name: abs(bracket[f"noise_{name}"] - bracket[f"heldout_{name}"]) for name in ("kid", "frechet")}
    return {**distances, "precision": 1.0, "recall": 1.0}


def moved(then: Mapping[str, float | None], now: Mapping[str, float | None], allowed: Mapping[str, float]) -> list[str]:
    """Names of the scores that differ by more than allowed, or are a number in one of the two alone."""
    return [name for name in BETTER if not _near(then.get(name), now.get(name), allowed[name])]


def _near(then: float | None, now: float | None, allowed: float) -> bool:
    if then is None or now is None:
        return then is now
    return abs(then - now) <= allowed


def new_band(repeats: Sequence[float], images: int, tests: int) -> Band:
    """The band of a score from repeats of `images` images each, when `tests` scores are judged in the same night.

    Repeats that happen to agree count as if one image made their spread: shares of few images do agree.
    """
    n = len(repeats)
    mean = float(np.mean(repeats)) if n else math.nan
    if n < 2:
        return Band(n, mean, math.inf, math.inf)
    spread = max(float(np.std(repeats, ddof=1)), 1 / images) * math.sqrt(1 + 1 / n)
    usual, alarm = t_quantile((1 + USUAL) / 2, n - 1), t_quantile(1 - FALSE_ALARM / tests, n - 1)
    return Band(n, mean, usual * spread, max(alarm, usual) * spread)


def judge(now: float | None, band: Band, better: int, scale: float) -> Verdict:
    """What a score of fresh seeds says; `better` as in BETTER, `scale` as from `scales`.

    Outside of the alarm band regressed or improved; inside of the usual band the same. Between the two, with too few
    repeats, or with a band that hides a quarter of the scale, inconclusive.
    """
    if band.repeats < FEWEST or now is None or not math.isfinite(now):
        return "inconclusive"
    gap = now - band.mean
    if abs(gap) > band.alarm:
        return "improved" if gap * better > 0 else "regressed"
    return "same" if abs(gap) <= band.usual <= BLIND * scale else "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several scores together; "inconclusive" for none."""
    return min(verdicts, key=VERDICTS.index, default="inconclusive")


def confirmed(first: Verdict, second: Verdict) -> Verdict:
    """The verdict of a night whose first set was an alarm, given that of a second set of other seeds."""
    return first if first == second else "inconclusive"


def t_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with `freedom` degrees of freedom is below with a probability of 0.5 or more."""
    low, high = 0.0, 1.0
    while _t_cdf(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, freedom) < probability else (low, middle)
    return high


def _t_cdf(t: float, freedom: int) -> float:
    """P(T < t) for t >= 0: Abramowitz and Stegun 26.7.3 and 26.7.4, exact for whole degrees of freedom."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for k in range(1 + freedom % 2, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    share = 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total
    return 0.5 + share / 2
