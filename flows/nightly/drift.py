"""Whether scores of fresh seeds differ from earlier ones by more than chance explains.

The score of an unchanged model is one more draw from what its earlier scores (repeats) came from. It lies in Student's
prediction interval mean +- t s sqrt(1 + 1/n) as often as the interval says (Hahn and Meeker, Statistical Intervals,
1991, section 4.7). That holds for normal noise. The noise of KID near 0 is skewed: one set in fifty may lie outside of
an interval meant for all but one in a thousand, so an alarm counts only if a second set of fresh seeds gives one too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

Verdict = Literal["regressed", "inconclusive", "improved", "same"]
VERDICTS: tuple[Verdict, ...] = ("regressed", "inconclusive", "improved", "same")
"""All verdicts, the worst first."""
BETTER = {"kid": -1, "frechet": -1, "precision": 1, "recall": 1}
"""The scores that are judged, with 1 if higher is better and -1 if lower is."""
FALSE_ALARM = 0.001
"""Probability that any score of an unchanged model looks regressed in one night, if the noise is normal."""
FEWEST = 4
"""Smallest number of repeats for which there is a band."""


@dataclass(frozen=True)
class Band:
    """The interval mean +- width, in which scores of fresh seeds lie if nothing changed."""

    repeats: int
    mean: float
    width: float

    def __str__(self) -> str:
        return f"{self.mean - self.width:.4g} to {self.mean + self.width:.4g}, {self.repeats} repeats"


def new_band(repeats: Sequence[float], images: int, tests: int) -> Band | None:
    """Return the band of a score from repeats of `images` images each, if `tests` scores are judged in the same night.

    None for fewer than 4 repeats. The standard deviation is taken as 1 / `images` at least: precision and recall,
    which are shares of images, may be equal in all repeats.
    """
    n = len(repeats)
    if n < FEWEST:
        return None
    spread = max(float(np.std(repeats, ddof=1)), 1 / images) * math.sqrt(1 + 1 / n)
    return Band(n, float(np.mean(repeats)), float(stdtrit(n - 1, 1 - FALSE_ALARM / tests)) * spread)


def judge(now: float | None, band: Band | None, better: int) -> Verdict:
    """Return the verdict on a score of fresh seeds; `better` as in BETTER. Inconclusive without a number or a band."""
    if band is None or now is None or not math.isfinite(now):
        return "inconclusive"
    gap = now - band.mean
    if abs(gap) <= band.width:
        return "same"
    return "improved" if gap * better > 0 else "regressed"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of several verdicts; inconclusive if there are none."""
    return min(verdicts, key=VERDICTS.index, default="inconclusive")


def confirmed(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict of two sets of fresh seeds: that of both if they agree, else inconclusive."""
    return first if first == second else "inconclusive"
