"""Scores against the truth as tables and a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.report.paired import paired_verdict
from cspipe.report.results import VariantResult


def scores(psnr: float, families: tuple[str, ...] = ("all", "half", "box")) -> dict[str, Any]:
    """Made-up scores of a row, the PSNR 1 dB wide to each side."""
    values = {"psnr": psnr, "ssim": 0.9, "efflite0_distance": 12.34}
    return {f: {m: {"mean": v, "low": v - 1, "high": v + 1} for m, v in values.items()} for f in families}


def results(tree: Path, params: Params, *psnrs: float) -> list[VariantResult]:
    """The made-up run; its first variants, in the order of params, have a truth and these PSNRs."""
    for name, psnr in zip(params.variants, psnrs, strict=False):
        file = tree / f"metrics/{name}.json"
        rows = {"result": scores(psnr), "input": scores(12), "nearest": scores(20)}
        file.write_text(json.dumps({**json.loads(file.read_text()), "paired": [rows]}))
    return collect(tree, params).results


@pytest.mark.parametrize(("psnr", "words"), [(25.0, "above"), (21.5, "not clearly apart from"), (9.0, "below")])
def test_verdict_sets_the_best_variant_against_the_best_rival(
    psnr: float, words: str, tree: Path, params: Params
) -> None:
    told = paired_verdict(results(tree, params, psnr - 1, psnr))
    assert told is not None
    assert told.startswith(f"Nearest to the truth is {list(params.variants)[1]}: PSNR {psnr:.2f}")
    assert words in told
    assert "nearest training image: 20.00" in told
