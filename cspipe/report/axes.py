"""Axes of a chart: which values stand where, and which get a tick. Pure numbers; charts.py draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

PARTS = 8
"""Parts between ticks, at most; then there are never fewer than three."""


@dataclass(frozen=True)
class Axis:
    """Maps `low` to pixel `start` and `high` to pixel `end`, linearly or in the logarithm (then 0 < low < high)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float | None:
        """Pixel of `value`; None where it has none (NaN, infinite, not positive on a log axis)."""
        if not drawable(value, self.log):
            return None
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values from low to high: multiples of 1, 2 or 5 x 10^k; on a long log axis powers of ten."""
        if self.log:
            return _log_ticks(self.low, self.high)
        return _multiples(self.low, self.high)


def drawable(value: float, log: bool) -> bool:
    """Whether an axis has a place for `value`."""
    return math.isfinite(value) and (value > 0 or not log)


def fit_axis(values: Iterable[float], start: float, end: float, log: bool = False) -> Axis:
    """The axis from the least to the greatest drawable value; a unit (or a decade) where these leave no span."""
    kept = [v for v in values if drawable(v, log)]
    low, high = (min(kept), max(kept)) if kept else (1.0, 1.0) if log else (0.0, 0.0)
    if low == high:
        low, high = (low / math.sqrt(10), high * math.sqrt(10)) if log else (low, low + max(abs(low), 1.0))
    return Axis(low, high, start, end, log)


def widened(axis: Axis) -> Axis:
    """The same axis moved out to round values, so that lines do not touch the frame."""
    if axis.log:
        low, high = _round_down(axis.low), 1 / _round_down(1 / axis.high)
    else:
        step = _round_step(axis.high - axis.low)
        low = _clean(math.floor(axis.low / step + 1e-9) * step)
        high = _clean(math.ceil(axis.high / step - 1e-9) * step)
    return Axis(low, high, axis.start, axis.end, axis.log)


def _multiples(low: float, high: float) -> list[float]:
    """The multiples of a round step from `low` to `high`."""
    step = _round_step(high - low)
    return [_clean(i * step) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _round_step(span: float) -> float:
    """The least 1, 2 or 5 x 10^k that divides `span` into no more than PARTS parts."""
    power = 10.0 ** math.floor(math.log10(span / PARTS))
    return next(m * power for m in (1, 2, 5, 10) if m * power * PARTS >= span * (1 - 1e-9))


def _round_down(value: float) -> float:
    """The greatest 1, 2 or 5 x 10^k that is not above `value` > 0."""
    exponent = math.floor(math.log10(value) + 1e-9)
    return max(_power(m, exponent) for m in (1, 2, 5) if _power(m, exponent) <= value * (1 + 1e-9))


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten when there are three or more of them (thinned when many); else 1, 2, 5 x 10^k, or finer steps."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    inside = [e for e in range(first, last + 1) if low * (1 - 1e-9) <= _power(1, e) <= high * (1 + 1e-9)]
    if len(inside) >= 3:
        return [_power(1, e) for e in inside[:: 1 + len(inside) // 8]]
    candidates = [_power(m, e) for e in range(first - 1, last + 1) for m in (1, 2, 5)]
    coarse = [v for v in candidates if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    return coarse if len(coarse) >= 3 else _multiples(low, high)


def _power(mantissa: int, exponent: int) -> float:
    """mantissa x 10^exponent, as the decimal literal reads."""
    return float(f"{mantissa}e{exponent}")


def _clean(value: float) -> float:
    """`value` without the last bits of rounding: 0.3, not 0.30000000000000004."""
    return float(f"{value:.12g}")
