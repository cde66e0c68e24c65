"""Sentences made of scores, the text table, and the stage that prints it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.report.results import VariantResult
from cspipe.report.summary import leaders, module_effects, module_helps, text_table, verdict
from cspipe.sampling.settings import Repaint
from cspipe.stages import report as stage
from tests.report.conftest import VARIANTS

REAL = "held-out real images"
PIPELINE = "stages:\n  prepare: {cmd: a}\n  sample:\n    foreach: ${variants}\n    do: {cmd: b}\n  report: {cmd: c}\n"


def test_rows_and_columns(tree: Path, params: Params) -> None:
    title, header, *rows = text_table(collect(tree, params)).splitlines()
    assert title == "efficientnet-lite0 features, N = 512 samples"
    assert header.split() == ["variant", "KID", "x1000", "Frechet", "precision", "recall"]
    assert [row.split("  ")[0] for row in rows] == ["held-out real images", *VARIANTS, "uniform noise"]
    assert rows[2].split() == ["cs-100", "21.4", "±", "1.8", "19.3", "0.736", "0.550"]
    assert len({len(line) for line in (header, *rows)}) == 1


@pytest.fixture
def workspace(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made-up run as the working folder, with a dvc.yaml."""
    (tree / "dvc.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tree)
    return tree


def test_stage_writes_the_page_and_ends_with_table_and_path(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.main()
    _, *table, last = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + len(VARIANTS) + 2
    assert last == f"report: file://{workspace}/report/report.html"
    html = (workspace / "report/report.html").read_text()
    assert '<script src="log/sample%40cs-10.js">' in html
    assert (workspace / "report/log/report.js").exists()


def test_stage_removes_what_variants_that_are_gone_left(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.main()
    before = contents(workspace)
    for name in ("samples/old/samples.json", "samples/old/samples.npy", "metrics/older.json", "neighbours/old.png"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).touch()
    kept = {"samples/mine/a.png", "samples/note.txt", "metrics/README.md", "neighbours/old.txt"}
    for name in kept:
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).touch()
    capsys.readouterr()
    stage.main()
    removed = capsys.readouterr().out.splitlines()[0]
    assert removed.endswith("of variants that params.yaml no longer has: old, older")
    assert contents(workspace) == before | kept
    assert not (workspace / "samples/old").exists()


def contents(folder: Path) -> set[str]:
    """Names of the files of the three folders that hold outputs of variants."""
    files = (file for name in ("samples", "metrics", "neighbours") for file in (folder / name).rglob("*"))
    return {str(file.relative_to(folder)) for file in files if file.is_file()}


@pytest.fixture
def results(tree: Path, params: Params) -> list[VariantResult]:
    """zz-plain 39.1 +- 2.1, cs-100 21.4 +- 1.8, cs-10 88.6 +- 4, ddpm-100 23.2 +- 1.9."""
    return collect(tree, params).results


def scored(result: VariantResult, kid: float, spread: float) -> VariantResult:
    scores = result.scores.model_copy(update={"kid": kid, "kid_std": spread})
    return replace(result, metrics=result.metrics.model_copy(update={"scores": scores}))


def test_overlapping_spreads_tie(results: list[VariantResult]) -> None:
    assert [r.name for r in leaders(results)] == ["cs-100", "ddpm-100"]
    assert verdict(results, results[0].metrics.bracket, REAL).startswith(
        "cs-100 and ddpm-100 tie: their KIDs, 21.4 ± 1.8 (cs-100) and 23.2 ± 1.9 (ddpm-100), overlap"
    )


@pytest.mark.parametrize(("other", "names"), [(0.0299, ["zz-plain", "cs-100"]), (0.0301, ["zz-plain"])])
def test_the_border_of_a_tie(results: list[VariantResult], other: float, names: list[str]) -> None:
    pair = [scored(results[0], 0.02, 0.004), scored(results[1], other, 0.006)]
    assert [r.name for r in leaders(pair)] == names


def test_a_variant_without_a_score_cannot_lead(results: list[VariantResult]) -> None:
    broken = [scored(results[0], math.nan, 0.0), results[1]]
    assert [r.name for r in leaders(broken)] == ["cs-100"]
    assert verdict(broken[:1], results[0].metrics.bracket, REAL).startswith("No variant has a KID")


def test_whether_c_helps_is_said_by_step() -> None:
    (said,) = module_helps("C", {"t": [1, 6, 11], "error": [2.9, 1.0, 0.53]})
    assert all(words in said for words in ("1 of 3", "0.530 at best (t = 11)", "2.90 at worst (t = 1)"))
    (said,) = module_helps("C", {"t": [1, 6], "error": [1.2, 0.9996]})
    assert all(words in said for words in ("0 of 2", "1.000 at best"))
    assert module_helps("C", {"t": [], "error": []}) == []


def test_effect_of_the_module_between_twins(results: list[VariantResult]) -> None:
    what = "With the net C (cs-100) instead of without (zz-plain), KID"
    assert module_effects(results) == [f"{what} falls from 39.1 ± 2.1 to 21.4 ± 1.8."]
    worse = [results[0], scored(results[1], 0.06, 0.001)]
    assert module_effects(worse) == [f"{what} rises from 39.1 ± 2.1 to 60.0 ± 1.0."]
    tied = [results[0], scored(results[1], 0.04, 0.001)]
    assert module_effects(tied) == [f"{what} is 40.0 ± 1.0 instead of 39.1 ± 2.1: a tie."]


def test_a_variant_that_repaints_is_no_twin_of_one_that_does_not(results: list[VariantResult]) -> None:
    repaints = results[1].settings.model_copy(update={"repaint": Repaint(rounds=2, masks=["half"])})
    assert module_effects([results[0], replace(results[1], settings=repaints)]) == []


def test_a_variant_that_repaints_is_ranked_only_beside_others_that_do(results: list[VariantResult]) -> None:
    """Most of its pixels are real ones."""
    half = Repaint(rounds=2, masks=["half"])
    fills = [replace(each, settings=each.settings.model_copy(update={"repaint": half})) for each in results[1:3]]
    assert [each.name for each in leaders([results[0], *fills])] == ["zz-plain"]
    assert verdict([results[0], *fills], results[0].metrics.bracket, REAL).startswith("zz-plain scores KID 39.1")
    assert [each.name for each in leaders(fills)] == ["cs-100"]
