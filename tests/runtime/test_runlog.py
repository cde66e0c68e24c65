"""The run log: what is true of one run on one machine."""

import json
from pathlib import Path

import pytest

from cspipe.runtime.files import sha256_file
from cspipe.runtime.runlog import RunLog
from tests.stages.conftest import new_repository, run_in


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with code, parameters and an output that git keeps, as the current folder."""
    names = ("cspipe/train.py", "params.yaml", "dvc.yaml", "dvc.lock", "metrics/a.json")
    monkeypatch.chdir(new_repository(tmp_path / "clone", {name: name for name in names}))
    return Path.cwd()


def head(clone: Path) -> str:
    return run_in(clone, "git", "rev-parse", "HEAD").stdout.strip()


def test_outputs_that_a_pipeline_changes_do_not_make_its_code_dirty(clone: Path) -> None:
    Path("dvc.lock").write_text("new")
    Path("metrics/a.json").unlink()
    facts = RunLog("train").facts()
    assert (facts["commit"], facts["dirty"], facts["changed"]) == (head(clone), False, [])


def test_changed_code_and_parameters_are_named(clone: Path) -> None:
    Path("params.yaml").write_text("other")
    Path("cspipe/new.py").write_text("")
    facts = RunLog("train").facts()
    assert (facts["dirty"], sorted(facts["changed"])) == (True, ["cspipe/new.py", "params.yaml"])


def test_parameters_and_code_are_those_of_the_beginning(clone: Path) -> None:
    before = sha256_file(Path("params.yaml"))
    log = RunLog("train")
    Path("params.yaml").write_text("changed while it ran")
    assert (log.facts()["params_sha256"], log.facts()["dirty"]) == (before, False)


def test_log_is_a_script_that_the_page_reads(clone: Path) -> None:
    Path("params.yaml").write_text("other")
    log = RunLog("sample@cs-10")
    log.images(12)
    log.write(Path("report/log"))
    text = Path("report/log/sample@cs-10.js").read_text()
    facts = json.loads(text.partition("] = ")[2].rstrip().removesuffix(";"))
    assert (facts["stage"], facts["images"]) == ("sample@cs-10", 12)
    assert facts["commit"] == f"{head(clone)[:12]}-dirty"


def test_outside_of_git_and_without_parameters_it_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = RunLog("train").facts()
    assert (facts["commit"], facts["dirty"], facts["params_sha256"]) == ("unknown", False, "unknown")
