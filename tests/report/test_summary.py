"""The text table, and the stage that prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.report.summary import text_table
from cspipe.stages import report as stage
from tests.report.conftest import VARIANTS

PIPELINE = "stages:\n  prepare: {cmd: a}\n  sample:\n    foreach: ${variants}\n    do: {cmd: b}\n  report: {cmd: c}\n"


def test_rows_and_columns(tree: Path, params: Params) -> None:
    title, header, *rows = text_table(collect(tree, params)).splitlines()
    assert title == "efficientnet-lite0 features, N = 512 samples"
    assert header.split() == ["variant", "KID", "x1000", "Frechet", "precision", "recall"]
    assert [row.split("  ")[0] for row in rows] == ["held-out real pictures", *VARIANTS, "uniform noise"]
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


@pytest.mark.usefixtures("workspace")
def test_flow_is_not_told_an_address(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSPIPE_FLOW_RUN", "train-demo-1")
    stage.main()
    _, *table = capsys.readouterr().out.splitlines()
    assert table[-1].startswith("uniform noise")
    assert len(table) == 2 + len(VARIANTS) + 2


def test_stage_says_what_is_missing(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "curves/norm.tsv").unlink()
    with pytest.raises(SystemExit) as stopped:
        stage.main()
    assert stopped.value.code == 1
    assert "curves/norm.tsv: is missing; `dvc repro compensate`" in capsys.readouterr().err
    assert not (workspace / "report/report.html").exists()


def test_log_names_follow_the_pipeline(workspace: Path) -> None:
    names = stage.log_names(workspace / "dvc.yaml", ["a", "b"])
    assert names == ["prepare", "sample@a", "sample@b", "report"]
