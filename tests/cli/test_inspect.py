"""`cspipe explain` and `cspipe lineage`, as typed in the project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cspipe.cli.main import app
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CSPIPE_S3", raising=False)


def cspipe(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_explain_prints_a_line_per_stage_or_one_with_all_its_reasons() -> None:
    lines = cspipe("explain").splitlines()
    assert {"prepare", "train", "sample@cs-10", "report"} <= {line.partition(":")[0] for line in lines}
    assert cspipe("explain", "train").splitlines()[0] in lines


def test_lineage_of_a_metrics_file_in_git_names_its_models() -> None:
    file = "metrics/cs-10.json"
    wanted = json.loads(Path(file).read_text())["provenance"][0]["model_sha256"]
    assert f"(sha256 {wanted[:12]}" in cspipe("lineage", file)
    tree = json.loads(cspipe("lineage", file, "--json"))
    assert wanted in [origin["sha256"] for origin in tree["made_from"]]
