"""What `cspipe explain` says of a small pipeline, compared with what the real `dvc repro` then does."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from cspipe.cli.experiments import read_experiments
from cspipe.cli.explain import Explanation, explain
from cspipe.cli.inspect import explain as explain_command
from cspipe.runtime.errors import UserError
from tests.stages.conftest import commit, new_repository, run_in

PIPELINE = """\
stages:
  prepare:
    cmd: cat raw/* code/* > prepared
    params: [size]
    deps: [raw, code]
    outs: [prepared]
  train:
    cmd: mkdir -p models && cat prepared params.yaml > models/main && echo 1 > curve.json
    params: [train]
    deps: [prepared]
    outs: [models/main]
    metrics: [curve.json: {cache: false}]
  sample:
    foreach: ${variants}
    do:
      cmd: cat models/main params.yaml > ${key}.txt
      params: ['variants.${key}']
      deps: [models]
      outs: ['${key}.txt']
"""
FILES = {
    "dvc.yaml": PIPELINE,
    "params.yaml": "size: 8\ntrain: {images: 100, rate: 0.00001}\nvariants:\n  a: {steps: 3}\n  b: {steps: 4}\n",
    "raw/one.txt": "image\n",
    "code/scale.py": "2\n",
    ".gitignore": "/prepared\n/models\n/a.txt\n/b.txt\n",
}
ALL = {"prepare", "train", "sample@a", "sample@b"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_repository(tmp_path_factory.mktemp("explain") / "project", FILES)
    run_in(folder, "dvc", "repro")
    commit(folder, "done")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, cache and all."""
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def explained(root: Path) -> dict[str, Explanation]:
    return {each.stage: each for each in explain(root)}


def test_nothing_changed_means_that_every_stage_is_up_to_date(finished: Path) -> None:
    assert {str(each) for each in explain(finished)} == {f"{stage}: up to date" for stage in ALL}


@pytest.mark.parametrize(
    ("name", "changes", "reasons"),
    [
        (
            "params.yaml",
            {"images: 100": "images: 200", "b: {steps: 4}": "b: {steps: 5}"},
            {"train": "train.images 100 -> 200", "sample@b": "variants.b.steps 4 -> 5"},
        ),
        ("code/scale.py", {"2": "3"}, {"prepare": "code modified (scale.py, other.py)"}),
        (
            "dvc.yaml",
            {"deps: [prepared]": "deps: [prepared, .gitignore]", "cat raw/*": "cat ./raw/*"},
            {"train": ".gitignore is read now", "prepare": "changed command"},
        ),
    ],
)
def test_changes_are_named_with_their_stages_and_dvc_agrees(
    project: Path, name: str, changes: dict[str, str], reasons: dict[str, str]
) -> None:
    text = (project / name).read_text()
    for old, new in changes.items():
        text = text.replace(old, new, 1)
    (project / name).write_text(text)
    if name.startswith("code/"):
        (project / "code/other.py").touch()
    found = explained(project)
    assert {each.stage: each.reasons for each in found.values() if each.reasons} == {
        stage: (reason,) for stage, reason in reasons.items()
    }
    assert all(f"{stage}: would run: {reason}" in str(found[stage]) for stage, reason in reasons.items())
    ran = set(re.findall(r"^Running stage '(.+)':", run_in(project, "dvc", "repro").stdout, re.MULTILINE))
    follow = {below for stage in reasons for below in found[stage].downstream}
    assert reasons.keys() <= ran <= {each.stage for each in found.values() if each.runs} == reasons.keys() | follow


def test_missing_or_changed_outputs_come_from_the_cache_or_else_run(project: Path) -> None:
    (project / "models/main").unlink()
    (project / "curve.json").write_text("2")
    found = explained(project)
    assert not any(each.runs for each in found.values())
    assert "restored from the cache: models/main is missing, curve.json modified" in str(found["train"])
    assert "Running stage" not in run_in(project, "dvc", "repro").stdout
    shutil.rmtree(project / ".dvc/cache")
    assert {name for name, each in explained(project).items() if each.runs} == ALL


def test_below_the_project_it_is_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished / "raw")
    explain_command("prepare")
    assert capsys.readouterr().out == "prepare: up to date\n"


def test_who_runs_the_pipeline_is_told(project: Path) -> None:
    """DVC's advice to remove its lock, without who has it, would end a run."""
    running = {str(project / "prepared"): {"pid": os.getpid(), "cmd": "dvc repro"}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps({"read": {}, "write": running}))
    with pytest.raises(UserError, match=rf"blocked by: \(PID {os.getpid()}\): dvc repro"):
        explain(project)


def test_a_workspace_whose_scores_are_of_other_parameters_is_marked(project: Path) -> None:
    def state() -> str:
        ((_, workspace),) = read_experiments(project, 1)
        return workspace.state

    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("b: {steps: 4}", "b: {steps: 5}"))
    assert state() == "out of date"
    run_in(project, "dvc", "repro")
    assert state() == ""
    (project / "models/main").unlink()  # would only be restored
    assert state() == ""


def test_what_cannot_be_explained_is_one_line(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=r"'trian'.*train.*sample@a"):
        explain_command("trian")
    (project / "params.yaml").write_text("size: [1,\n")
    for root in (project, tmp_path, new_repository(tmp_path / "empty")):
        with pytest.raises(UserError) as caught:
            explain(root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)
