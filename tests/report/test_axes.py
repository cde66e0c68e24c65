"""Where values stand on an axis, and which get ticks."""

from __future__ import annotations

import math

import pytest

from cspipe.report.axes import Axis, fit_axis, widened


@pytest.mark.parametrize(
    ("value", "pixel"), [(0.0, 100.0), (5.0, 150.0), (10.0, 200.0), (12.0, 220.0), (math.nan, None), (math.inf, None)]
)
def test_linear_place(value: float, pixel: float | None) -> None:
    assert Axis(0, 10, 100, 200).place(value) == pytest.approx(pixel)


@pytest.mark.parametrize(
    ("value", "pixel"), [(0.01, 300.0), (0.1, 200.0), (1.0, 100.0), (0.0, None), (-1.0, None), (math.nan, None)]
)
def test_log_place_downwards(value: float, pixel: float | None) -> None:
    assert Axis(0.01, 1, 300, 100, log=True).place(value) == pytest.approx(pixel)


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.3, False, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (-3, 7, False, [-2, 0, 2, 4, 6]),
        (1280, 64000, False, [10000, 20000, 30000, 40000, 50000, 60000]),
        (0.001, 1, True, [0.001, 0.01, 0.1, 1]),
        (0.03, 0.8, True, [0.05, 0.1, 0.2, 0.5]),
        (0.02, 0.05, True, [0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 1, log).ticks() == ticks


@pytest.mark.parametrize(("log", "low", "high"), [(False, 1e-9, 3e-9), (False, -4e7, 9e7), (True, 1e-30, 1e30)])
def test_any_range_has_a_few_ticks(log: bool, low: float, high: float) -> None:
    assert 3 <= len(Axis(low, high, 0, 1, log).ticks()) <= 11


def test_fit_passes_over_what_cannot_be_drawn() -> None:
    axis = fit_axis([math.nan, 3, -2, 0, math.inf, 8], 0, 1, log=True)
    assert (axis.low, axis.high) == (3, 8)


@pytest.mark.parametrize("values", [[], [math.nan], [5.0], [0.0], [-2.0, -2.0]])
@pytest.mark.parametrize("log", [False, True])
def test_fit_always_has_a_span(values: list[float], log: bool) -> None:
    axis = widened(fit_axis(values, 0, 1, log))
    assert axis.low < axis.high
    assert axis.ticks()


@pytest.mark.parametrize(
    ("low", "high", "log", "wide"),
    [(0.13, 0.97, False, (0, 1)), (0, 1, False, (0, 1)), (0.013, 0.9, True, (0.01, 1)), (0.2, 5, True, (0.2, 5))],
)
def test_widened_ends_on_round_values(low: float, high: float, log: bool, wide: tuple[float, float]) -> None:
    axis = widened(Axis(low, high, 0, 1, log))
    assert (axis.low, axis.high) == pytest.approx(wide)
