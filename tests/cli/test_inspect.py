"""`cspipe explain` and `cspipe lineage`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cspipe.cli import inspect as inspect_cli
from cspipe.runtime.errors import UserError
from tests.conftest import ROOT

app = typer.Typer()
app.command("explain")(inspect_cli.explain)
app.command("lineage")(inspect_cli.lineage)


def cspipe(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("CSPIPE_S3", raising=False)


def test_explain_prints_a_line_per_stage_or_one_with_its_reasons() -> None:
    names = [line.split()[0] for line in cspipe("explain").splitlines()]
    assert {"prepare", "train", "sample@cs-10", "report"} <= set(names)
    assert cspipe("explain", "train").startswith("train: ")
    assert json.loads(cspipe("explain", "train", "--json"))["stage"] == "train"
    assert [tree["stage"] for tree in json.loads(cspipe("explain", "--json"))] == names


def test_lineage_of_a_metrics_file_in_git_names_its_models() -> None:
    file = "metrics/cs-10.json"
    wanted = json.loads(Path(file).read_text())["provenance"][0]["model_sha256"]
    assert f"main model (sha256 {wanted[:12]})" in cspipe("lineage", file).replace(" models/main/model.safetensors", "")
    tree = json.loads(cspipe("lineage", file, "--json"))
    assert wanted in [origin["sha256"] for origin in tree["made_from"]]


def test_what_is_not_there_is_an_error_for_people() -> None:
    for arguments, message in ((("explain", "nope"), "no stage 'nope'"), (("lineage", "nope"), "no such file")):
        with pytest.raises(UserError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)
