"""Sentences made of scores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.report.results import VariantResult
from cspipe.report.verdict import leaders, module_effects, verdict

REAL = "held-out real pictures"


@pytest.fixture
def results(tree: Path, params: Params) -> list[VariantResult]:
    """zz-plain 39.1 +- 2.1, cs-100 21.4 +- 1.8, cs-10 88.6 +- 4, ddpm-100 23.2 +- 1.9."""
    return collect(tree, params).results


def scored(result: VariantResult, kid: float, spread: float) -> VariantResult:
    """The same result with another KID."""
    return replace(result, scores=result.scores.model_copy(update={"kid": kid, "kid_std": spread}))


def test_a_winner(results: list[VariantResult]) -> None:
    results = [results[0], results[1]]
    assert verdict(results, results[0].bracket, REAL) == (
        "Of the variants, cs-100 is nearest to the reference: KID 21.4 ± 1.8, where held-out real pictures score 0.70 "
        "and uniform noise scores 710.0 (KID \N{MULTIPLICATION SIGN} 1000, lower is better)."
    )


def test_overlapping_spreads_tie(results: list[VariantResult]) -> None:
    assert [r.name for r in leaders(results)] == ["cs-100", "ddpm-100"]
    assert verdict(results, results[0].bracket, REAL).startswith(
        "cs-100 and ddpm-100 tie: their KIDs, 21.4 ± 1.8 (cs-100) and 23.2 ± 1.9 (ddpm-100), overlap"
    )


def test_all_tie(results: list[VariantResult]) -> None:
    same = [scored(r, 0.02, 0.001) for r in results]
    assert verdict(same, results[0].bracket, REAL).startswith("All variants tie")


@pytest.mark.parametrize(("other", "names"), [(0.0299, ["zz-plain", "cs-100"]), (0.0301, ["zz-plain"])])
def test_the_border_of_a_tie(results: list[VariantResult], other: float, names: list[str]) -> None:
    pair = [scored(results[0], 0.02, 0.004), scored(results[1], other, 0.006)]
    assert [r.name for r in leaders(pair)] == names


def test_an_unknown_spread_counts_as_none(results: list[VariantResult]) -> None:
    pair = [scored(results[0], 0.02, math.nan), scored(results[1], 0.021, math.nan)]
    assert [r.name for r in leaders(pair)] == ["zz-plain"]


def test_one_variant_is_not_called_best(results: list[VariantResult]) -> None:
    assert verdict(results[:1], results[0].bracket, REAL).startswith("zz-plain scores KID 39.1 ± 2.1, where")


def test_a_variant_without_a_score_cannot_lead(results: list[VariantResult]) -> None:
    broken = [scored(results[0], math.nan, 0.0), results[1]]
    assert [r.name for r in leaders(broken)] == ["cs-100"]
    assert verdict(broken[:1], results[0].bracket, REAL).startswith("No variant has a KID")


def test_effect_of_the_module_between_twins(results: list[VariantResult]) -> None:
    what = "With the module (cs-100) instead of without (zz-plain), KID"
    assert module_effects(results) == [f"{what} falls from 39.1 ± 2.1 to 21.4 ± 1.8."]
    worse = [results[0], scored(results[1], 0.06, 0.001)]
    assert module_effects(worse) == [f"{what} rises from 39.1 ± 2.1 to 60.0 ± 1.0."]
    tied = [results[0], scored(results[1], 0.04, 0.001)]
    assert module_effects(tied) == [f"{what} is 40.0 ± 1.0 instead of 39.1 ± 2.1: a tie."]
