"""Scores against the truth as tables and a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.report.page import render
from cspipe.report.paired import families_table, interval, measures_table, paired_verdict
from cspipe.report.results import Interval, VariantResult
from cspipe.report.summary import text_table


def scores(psnr: float, families: tuple[str, ...] = ("all", "half", "box")) -> dict[str, Any]:
    """Made-up scores of a row, the PSNR 1 dB wide to each side."""
    values = {"psnr": psnr, "ssim": 0.9, "efflite0_distance": 12.34}
    return {f: {m: {"mean": v, "low": v - 1, "high": v + 1} for m, v in values.items()} for f in families}


def results(tree: Path, params: Params, *psnrs: float, **more: Any) -> list[VariantResult]:
    """The made-up run; its first variants, in the order of params, have a truth and these PSNRs."""
    for name, psnr in zip(params.variants, psnrs, strict=False):
        file = tree / f"metrics/{name}.json"
        rows = {"result": scores(psnr, **more), "input": scores(12, **more), "nearest": scores(20, **more)}
        file.write_text(json.dumps({**json.loads(file.read_text()), "paired": [rows]}))
    return collect(tree, params).results


def test_rivals_come_first_then_the_variants_with_a_truth(tree: Path, params: Params) -> None:
    table = measures_table(results(tree, params, 25.0, 26.0))
    assert table is not None
    assert table.header == ["", "PSNR, dB \u2191", "SSIM \u2191", "efflite0 distance \u2193"]
    first, second = list(params.variants)[:2]
    assert [row[0] for row in table.rows] == ["input as it is", "nearest training image", first, second]
    assert table.rows[2][1:] == ["25.00 [24.00, 26.00]", "0.900 [-0.100, 1.900]", "12.3 [11.3, 13.3]"]


def test_families_stand_apart_if_there_are_several(tree: Path, params: Params) -> None:
    table = families_table(results(tree, params, 25.0))
    assert table is not None
    assert table.header == ["PSNR, dB \u2191", "half", "box"]
    assert families_table(results(tree, params, 25.0, families=("all",))) is None


@pytest.mark.parametrize(("psnr", "words"), [(25.0, "above"), (21.5, "not clearly apart from"), (9.0, "not clearly")])
def test_verdict_sets_the_best_variant_against_the_best_rival(
    psnr: float, words: str, tree: Path, params: Params
) -> None:
    told = paired_verdict(results(tree, params, psnr - 1, psnr))
    assert told is not None
    assert told.startswith(f"Nearest to the truth is {list(params.variants)[1]}: PSNR {psnr:.2f}")
    assert words in told
    assert "nearest training image: 20.00" in told


def test_without_a_truth_nothing_is_told(tree: Path, params: Params) -> None:
    report = collect(tree, params)
    assert measures_table(report.results) is families_table(report.results) is paired_verdict(report.results) is None
    assert "Against the truth" not in render(report, ["train"])


def test_page_and_terminal_show_the_tables(tree: Path, params: Params) -> None:
    results(tree, params, 25.0)
    report = collect(tree, params)
    for shown in (render(report, ["train"]), text_table(report)):
        assert "25.00 [24.00, 26.00]" in shown
        assert "nearest training image" in shown


@pytest.mark.parametrize(("mean", "shown"), [(0.0, "0.00"), (123.4, "123"), (0.01234, "0.0123")])
def test_a_measure_without_decimals_of_its_own_gets_three_digits(mean: float, shown: str) -> None:
    assert interval(Interval(mean=mean, low=mean, high=mean), "distance") == f"{shown} [{shown}, {shown}]"
