"""Verdicts: held, not held, or undecided, with the numbers."""

from typing import Any

import pytest

from cspipe.study.claims import HELD, NOT_HELD, UNDECIDED, count_decided, decide
from tests.study.conftest import Make

CLAIM = {"text": "It is better.", "kind": "lower", "row": "cs", "than": "plain", "score": "frechet"}
Points = dict[tuple[str, str | None], list[float]]


def verdict(made: Make, scores: Points, changes: dict[str, Any] | None = None, **options: Any) -> tuple[str, str]:
    results = made(scores, [{**CLAIM, **(changes or {})}], **options)
    found = decide(results.study.claims[0], results)
    return found.word, found.numbers


@pytest.mark.parametrize(
    ("cs", "kind", "expected"),
    [
        ([5.0, 6.0, 7.0], "lower", HELD),
        ([5.0, 6.0, 7.0], "higher", NOT_HELD),
        ([15.0, 16.0, 17.0], "lower", NOT_HELD),
        ([15.0, 16.0, 17.0], "higher", HELD),
        ([7.0, 8.0, 11.0], "lower", UNDECIDED),
    ],
)
def test_difference_decides_when_its_interval_is_on_one_side(
    made: Make, cs: list[float], kind: str, expected: str
) -> None:
    scores: Points = {("plain", None): [10.0, 10.0, 10.0], ("cs", None): cs}
    assert verdict(made, scores, {"kind": kind})[0] == expected


def test_one_seed_decides_nothing(made: Make) -> None:
    word, numbers = verdict(made, {("plain", None): [10.0], ("cs", None): [1.0]})
    assert word == UNDECIDED
    assert "one seed" in numbers


def test_seed_that_failed_in_one_line_is_left_out_of_both(made: Make) -> None:
    scores: Any = {("plain", None): [10.0, 10.0, 100.0], ("cs", None): [9.0, 8.0, None]}
    assert "-1.50 [-7.85, 4.85] over 2 seeds" in verdict(made, scores)[1]


def test_difference_within_the_spread_between_seeds_decides_nothing(made: Make) -> None:
    scores: Points = {("plain", None): [10.0, 20.0, 30.0], ("cs", None): [9.0, 19.0, 29.0]}
    word, numbers = verdict(made, scores)
    assert word == UNDECIDED
    assert "is -1.00 [-1.00, -1.00] over 3 seeds, less than the 10.0 between seeds of the latter" in numbers


def test_correction_counts_the_claims_of_the_page_that_compare_lines(made: Make) -> None:
    """The two lines differ with a p of .011, enough for a page of one claim alone."""
    scores: Points = {("plain", None): [10.0, 10.0, 10.0], ("cs", None): [8.0, 8.6, 8.4]}
    assert count_decided(made(scores, [CLAIM])) == (1, 1)
    assert count_decided(made(scores, [CLAIM | {"text": str(place)} for place in range(10)])) == (10, 0)


def test_claim_of_a_line_that_never_ran_is_undecided(made: Make) -> None:
    scores: Any = {("plain", None): [10.0, 10.0], ("cs", None): [None, None]}
    assert verdict(made, scores) == (UNDECIDED, "no seed of both cs and plain has run")


@pytest.mark.parametrize(
    ("last", "factor", "expected"),
    [([4.0, 4.0], 1, HELD), ([4.0, 4.0], 10, NOT_HELD), ([9.0, 9.0], 1, NOT_HELD), ([4.0, 9.0], 1, UNDECIDED)],
)
def test_speedup(made: Make, last: list[float], factor: int, expected: str) -> None:
    """At 4,000 images plain is at 8; cs is there between 1,000 and 4,000 images if it ends below, else never."""
    scores: Points = {
        ("plain", "1000"): [16.0, 16.0],
        ("cs", "1000"): [16.0, 16.0],
        ("plain", "4000"): [8.0, 8.0],
        ("cs", "4000"): last,
    }
    word, numbers = verdict(made, scores, {"kind": "speedup", "factor": factor})
    assert word == expected
    assert ("never" in numbers) == (9.0 in last)


def test_equal_time_can_turn_a_gain_at_equal_images_into_a_loss(made: Make) -> None:
    scores: Points = {
        ("plain", "1000"): [16.0, 16.5],
        ("cs", "1000"): [15.0, 15.5],
        ("plain", "2000"): [8.0, 8.5],
        ("cs", "2000"): [7.0, 7.5],
    }
    seconds = {("plain", "1000"): 10.0, ("plain", "2000"): 20.0, ("cs", "1000"): 15.0, ("cs", "2000"): 30.0}
    assert verdict(made, scores)[0] == HELD
    word, numbers = verdict(made, scores, {"kind": "equal-time"}, seconds=seconds)
    assert word == NOT_HELD
    assert "after 20.0 s of training is 4.33 [4.33, 4.33]" in numbers


def test_lines_may_be_compared_at_different_points(made: Make) -> None:
    scores: Points = {
        ("plain", "100"): [9.0, 9.5],
        ("cs", "100"): [7.0, 7.5],
        ("plain", "1000"): [8.0, 8.5],
        ("cs", "1000"): [6.0, 6.5],
    }
    word, numbers = verdict(made, scores, {"point": "100", "than_point": "1000"})
    assert word == HELD
    assert "at 100 images seen, of the other at 1000, is -1.00 [-1.00, -1.00]" in numbers


def test_of_two_biases_the_smaller_is_better_whatever_their_signs(made: Make) -> None:
    results = made({("plain", None): [0.0, 0.0], ("cs", None): [0.0, 0.0]})
    bias = {"plain": [0.2, 0.21], "cs": [-0.1, 0.11]}
    for cell in results.cells:
        cell.variants["ddim-10"].scores["exposure_50"] = bias[cell.row][cell.seed]
    tree = results.model_dump()
    tree["study"]["scores"].append("exposure_50")
    tree["study"]["claims"] = [{**CLAIM, "score": "exposure_50"}]
    results = type(results).model_validate(tree)
    found = decide(results.study.claims[0], results)
    assert found.word == HELD
    assert "|exposure_50| of cs minus that of plain is -0.100 [-0.100, " in found.numbers
