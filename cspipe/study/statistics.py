"""Statistics of a study: pure functions of values, one value per seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95 % interval of Student's t; for one seed all three are its value."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the mean is a number, neither NaN nor infinite."""
        return bool(np.isfinite(self.mean))

    @property
    def may_be_zero(self) -> bool:
        """Whether 0 lies in the interval."""
        return self.low <= 0 <= self.high


def interval(values: Sequence[float]) -> Interval:
    """Return mean and interval over seeds; all NaN without values, or with a NaN among them.

    Student's t, not a bootstrap: for three values a bootstrap gives their range, which misses the truth in one case of
    four.
    """
    numbers = np.array(values, dtype=np.float64)
    if not len(numbers) or np.isnan(numbers).any():
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(numbers.mean())
    if len(numbers) == 1:
        return Interval(mean, mean, mean)
    half = float(student.ppf((1 + LEVEL) / 2, len(numbers) - 1)) * spread(values) / len(numbers) ** 0.5
    return Interval(mean, mean - half, mean + half)


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation between seeds; 0 for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Return the interval of a - b, paired by seed."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p value of a t test, paired by seed, that two lines have one mean; for two seeds or more."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if not any(differences):
        return 1.0
    error = spread(differences) / len(differences) ** 0.5
    statistic = abs(np.mean(differences)) / error if error else np.inf
    return float(2 * student.sf(statistic, len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[bool]:
    """Return which p values are below 1 - LEVEL by Holm's step-down correction for their number (Holm 1979)."""
    kept = [False] * len(p_values)
    for rank, place in enumerate(np.argsort(p_values)):
        if not p_values[place] <= (1 - LEVEL) / (len(p_values) - rank):  # also for NaN
            break
        kept[place] = True
    return kept


def at(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Interpolate the curve through points (xs, ys) linearly at x; NaN outside of them."""
    order = np.argsort(xs)
    return float(np.interp(x, np.array(xs)[order], np.array(ys)[order], left=np.nan, right=np.nan))


def images_to_reach(target: float, images: Sequence[float], scores: Sequence[float], lower: bool) -> float | None:
    """Return the images after which a curve first reaches `target`, linear in log(images); None if it never does.

    A curve that is as good from its first point on counts with that point, an upper bound.
    """
    sign = 1.0 if lower else -1.0
    reached = [sign * score <= sign * target for score in scores]
    if not any(reached):
        return None
    place = reached.index(True)
    if place == 0:
        return float(images[0])
    x = np.log(np.array([images[place - 1], images[place]], dtype=np.float64))
    y0, y1 = scores[place - 1], scores[place]
    return float(np.exp(x[0] + (x[1] - x[0]) * (target - y0) / (y1 - y0)))


def speedup(
    images: Sequence[float], curves: Sequence[Sequence[float]], than: Sequence[Sequence[float]], lower: bool
) -> tuple[Interval, int]:
    """Return images `than` needs to its last score / images `curves` need to reach it, and how many seeds are bounds.

    Curves are scores at `images`, one for each seed. One that never reaches it needs more than all images: it counts
    with all of them, a factor of 1 or below that is only an upper bound. The interval is computed for logarithms.
    """
    factors, censored = [], 0
    for curve, other in zip(curves, than, strict=True):
        needed = images_to_reach(other[-1], images, curve, lower)
        first = images_to_reach(other[-1], images, other, lower)
        assert first is not None, "a curve reaches its own last score"
        censored += needed is None
        factors.append(first / (images[-1] if needed is None else needed))
    found = interval(np.log(factors).tolist())
    return Interval(*np.exp([found.mean, found.low, found.high]).tolist()), censored


def equal_time(
    seconds: Sequence[Sequence[float]], curves: Sequence[Sequence[float]],
    than_seconds: Sequence[Sequence[float]], than: Sequence[Sequence[float]],
) -> tuple[float, list[float], list[float]]:  # fmt: skip
    """Return the mean of the training seconds that two lines are compared at, and the scores of both there, by seed.

    The seconds are those of the last point of the faster line, seed by seed.
    """
    times, scores, others = [], [], []
    for xs, ys, other_xs, other_ys in zip(seconds, curves, than_seconds, than, strict=True):
        time = float(np.minimum(xs[-1], other_xs[-1]))  # NaN if one is unknown
        times.append(time)
        scores.append(at(time, xs, ys))
        others.append(at(time, other_xs, other_ys))
    return float(np.mean(times)), scores, others


def best_with_ties(values: Sequence[Sequence[float]], lower: bool) -> list[bool]:
    """Return which of several lines (scores by seed, the same seeds) have the best mean, or tie with that line."""
    means = [float(np.mean(each)) for each in values]
    best = int(np.argmin(means) if lower else np.argmax(means))
    return [difference(each, values[best]).may_be_zero for each in values]
