"""Formatting of numbers for people; a dash stands for an unknown value (None, NaN, infinite)."""

from __future__ import annotations

import math

DASH, TIMES, MINUS = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"


def significant(value: float | None, digits: int = 3) -> str:
    """Format `value` with `digits` significant digits: 0.0123, 1,240, 2.00e-05."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude < 7:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def count(value: float | None) -> str:
    """Format a whole number with thousands separators: 64,000."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.0f}"


def compact(value: float) -> str:
    """Format a number in a short form for ticks and summaries: 0.5, 64k, 1.2M, 1e-05."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def kid(value: float | None, spread: float | None = None) -> str:
    """Format a KID and, if given, its spread, both x 1000: '12.3 ± 0.8'. The spread has as many decimals as the KID."""
    if value is None or not math.isfinite(value):
        return DASH
    thousandth = 1000 * value
    decimals = 1 if abs(thousandth) >= 10 else 2
    text = f"{thousandth:,.{decimals}f}"
    if spread is None or not math.isfinite(spread):
        return text
    return f"{text} ± {1000 * spread:,.{decimals}f}"
