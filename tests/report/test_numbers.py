"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from cspipe.report.numbers import DASH, compact, count, kid, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"), (12.345, "12.3"), (1234.5, "1,234"), (0, "0"), (-0.0123, "-0.0123"),
        (2e-5, "2.00e-05"), (3.2e9, "3.20e+09"), (math.nan, DASH), (None, DASH), (math.inf, DASH),
    ],
)  # fmt: skip
def test_significant(value: float | None, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(("value", "text"), [(64000, "64k"), (1.5e6, "1.5M"), (0.02, "0.02"), (-2000, "-2k"), (0, "0")])
def test_compact(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.0214, 0.0018, "21.4 ± 1.8"), (0.0007, None, "0.70"), (-0.0002, 0.0001, "-0.20 ± 0.10"),
        (0.01, math.nan, "10.0"), (math.nan, 0.1, DASH), (1.5, None, "1,500.0"),
    ],
)  # fmt: skip
def test_kid_is_a_thousandfold(value: float, spread: float | None, text: str) -> None:
    assert kid(value, spread) == text


def test_count() -> None:
    assert (count(64000), count(None)) == ("64,000", DASH)
