"""The statistics, against values worked out by hand."""

import math

import pytest
from scipy.stats import ttest_1samp, ttest_rel

from cspipe.study.statistics import (
    best_with_ties,
    difference,
    equal_time,
    holm,
    images_to_reach,
    interval,
    p_value,
    speedup,
)


def test_interval_is_scipys_of_a_t_test_and_of_one_value_that_value() -> None:
    found, expected = interval([1.0, 2.0, 5.0, 7.0]), ttest_1samp([1.0, 2.0, 5.0, 7.0], 0).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((3.75, expected.low, expected.high))
    assert (interval([4.0]).low, interval([4.0]).high) == (4.0, 4.0)


def test_interval_of_nothing_and_of_a_missing_value_is_unknown() -> None:
    assert not interval([]).known
    assert not interval([1.0, math.nan]).known


def test_difference_is_paired_by_seed() -> None:
    """Seeds differ by 100, the two lines by 1 within each."""
    found = difference([1.0, 101.0, 201.0], [2.0, 102.0, 202.0])
    assert (found.mean, found.low, found.high) == (-1.0, -1.0, -1.0)


def test_p_value_is_scipys_of_a_paired_t_test() -> None:
    a, b = [1.0, 2.0, 5.0], [3.0, 2.5, 9.0]
    assert p_value(a, b) == pytest.approx(ttest_rel(a, b).pvalue)
    assert p_value(a, a) == 1
    assert p_value([1.0, 2.0], [3.0, 4.0]) == 0


def test_holm_stops_at_the_first_that_is_too_large() -> None:
    """.04 would pass alone, and .024 against .05 / 2; but .02 fails against .05 / 3."""
    assert holm([0.04, 0.001, 0.024, 0.02]) == [False, True, False, False]
    assert holm([0.04, 0.001, 0.024, 0.016]) == [True, True, True, True]
    assert holm([]) == []
    assert holm([0.01, math.nan]) == [True, False]


@pytest.mark.parametrize(
    ("target", "lower", "expected"),
    [
        (5.0, True, 2000.0),  # at a point
        (7.5, True, math.sqrt(1000 * 2000)),  # half way in log(images)
        (20.0, True, 1000.0),  # from the first point on
        (1.0, True, None),
        (10.0, False, 1000.0),
        (11.0, False, None),
    ],
)
def test_images_to_reach_a_score(target: float, lower: bool, expected: float | None) -> None:
    found = images_to_reach(target, [1000.0, 2000.0, 4000.0], [10.0, 5.0, 2.5], lower)
    assert found == (None if expected is None else pytest.approx(expected))


def test_speedup_of_a_curve_that_is_there_at_half_of_the_images_is_two() -> None:
    factor, bounds = speedup([1000.0, 2000.0, 4000.0], [[8.0, 4.0, 2.0]], [[16.0, 8.0, 4.0]], lower=True)
    assert factor.mean == pytest.approx(2.0)
    assert bounds == 0


def test_speedup_of_a_curve_that_never_gets_there_is_a_bound_and_counted() -> None:
    factor, bounds = speedup([1000.0, 2000.0], [[16.0, 9.0], [8.0, 4.0]], [[16.0, 8.0], [8.0, 4.0]], lower=True)
    assert bounds == 1
    assert factor.mean == pytest.approx(1.0)


def test_equal_time_compares_at_the_end_of_the_faster() -> None:
    """The slower is at 20 s between its points, at 7; the faster ends there at 6."""
    assert equal_time([[10.0, 30.0]], [[8.0, 6.0]], [[10.0, 20.0]], [[9.0, 6.0]]) == (20.0, [7.0], [6.0])
    assert math.isnan(equal_time([[10.0, math.nan]], [[8.0, 6.0]], [[10.0, 20.0]], [[9.0, 6.0]])[0])


def test_best_has_all_that_tie_with_it() -> None:
    lines = [[5.0, 6.0, 7.0], [5.5, 5.6, 7.2], [9.0, 10.0, 11.0]]
    assert best_with_ties(lines, lower=True) == [True, True, False]
    assert best_with_ties(lines, lower=False) == [False, False, True]
    assert best_with_ties([[5.0], [6.0], [5.0]], lower=True) == [True, False, True]
