"""Forecasts compared with what the real `dvc repro` then does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from cspipe.explain import Verdict, explain, explain_all, table
from cspipe.runtime.errors import UserError
from tests.explain.conftest import PARAMS, commit, run_in
from tests.s3_server import S3

ALL = {"prepare", "train", "sample@a", "sample@b", "evaluate@a", "evaluate@b", "report"}


def verdicts(root: Path) -> dict[Verdict, set[str]]:
    found: dict[Verdict, set[str]] = {verdict: set() for verdict in Verdict}
    for each in explain_all(root):
        found[each.verdict].add(each.stage)
    return found


def change(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def did(root: Path) -> dict[Verdict, set[str]]:
    """What `dvc repro` does, from what it prints."""
    printed = run_in(root, "dvc", "repro")
    patterns = {
        Verdict.RUN: r"Running stage '(.+)':",
        Verdict.RESTORE: r"Stage '(.+)' is cached - skipping run",
        Verdict.SKIP: r"Stage '(.+)' didn't change, skipping",
    }
    return {verdict: set(re.findall(pattern, printed)) for verdict, pattern in patterns.items()}


def test_nothing_changed_means_nothing_to_do(project: Path) -> None:
    assert verdicts(project)[Verdict.SKIP] == ALL
    train = explain(project, "train")
    assert train.text() == "train: up to date"
    assert (train.reasons, train.upstream, train.pull_bytes) == ((), (), 0)


@pytest.mark.parametrize(
    ("name", "old", "new", "stage", "reason"),
    [
        ("params.yaml", "images: 100", "images: 200", "train", "params.yaml: train.images 100 -> 200"),
        ("params.yaml", "rate: 0.1}", "rate: 0.1, decay: 0.5}", "train", "params.yaml: train.decay 0.5 is new"),
        ("params.yaml", ", rate: 0.1", "", "train", "params.yaml: train.rate 0.1 is gone"),
        ("params.yaml", "b: {steps: 4}", "b: {steps: 5}", "sample@b", "params.yaml: variants.b.steps 4 -> 5"),
        ("lib/scale.py", "2 *", "3 *", "prepare", "lib: changed (scale.py)"),
        ("lib/scale.py", "2 *", "3 *", "train", "lib/scale.py: changed"),
        ("dvc.yaml", "work.py prepare", "./work.py prepare", "prepare",
         "command: python work.py prepare prepared raw -> python ./work.py prepare prepared raw"),
        ("raw/one.txt", "picture", "photograph", "prepare", "raw: changed (one.txt)"),
        ("metrics/a.json", "6", "7", "evaluate@a", "metrics/a.json: changed by hand since the stage wrote it"),
    ],
)  # fmt: skip
def test_change_is_named_with_its_stage_and_dvc_agrees(
    project: Path, name: str, old: str, new: str, stage: str, reason: str
) -> None:
    if name.startswith("metrics"):
        old = (project / name).read_text()
        new = '{"kid": 99}'
    change(project, name, old, new)
    forecast = {each.stage: each for each in explain_all(project)}
    assert reason in forecast[stage].reasons
    certain = {name for name, each in forecast.items() if each.verdict is Verdict.RUN and not each.upstream}
    happened = did(project)
    assert certain <= happened[Verdict.RUN] <= {name for name in ALL if forecast[name].verdict is Verdict.RUN}
    assert happened[Verdict.RESTORE] == {name for name in ALL if forecast[name].verdict is Verdict.RESTORE}
    assert {name for name in ALL if forecast[name].verdict is Verdict.SKIP} <= happened[Verdict.SKIP]


def test_stage_after_one_that_runs_says_so(project: Path) -> None:
    change(project, "params.yaml", "images: 100", "images: 200")
    sample = explain(project, "sample@a")
    assert sample.upstream == ("train",)
    assert sample.text() == (
        "sample@a: would run, unless what is upstream comes out as before\n  upstream train runs first"
    )
    report = explain(project, "report")
    assert report.why() == ["upstream evaluate@a, evaluate@b, sample@a, sample@b, train run first"]


def test_parameters_used_before_are_restored_from_the_run_cache_and_their_readers_too(project: Path) -> None:
    change(project, "params.yaml", "images: 100", "images: 200")
    run_in(project, "dvc", "repro")
    (project / "params.yaml").write_text(PARAMS)
    forecast = verdicts(project)
    assert forecast[Verdict.RESTORE] == ALL - {"prepare"}
    train = explain(project, "train")
    assert "would be restored from the cache, not run" in train.text()
    assert train.reasons == (
        "params.yaml: train.images 200 -> 100",
        "the run cache holds what it made from the same inputs before",
    )
    assert did(project) == {Verdict.RUN: set(), Verdict.RESTORE: ALL - {"prepare"}, Verdict.SKIP: {"prepare"}}


def test_missing_workspace_outputs_are_restored_from_the_cache(project: Path) -> None:
    for name in ("models", "samples"):
        shutil.rmtree(project / name)
    forecast = verdicts(project)
    assert forecast[Verdict.RESTORE] == {"train", "sample@a", "sample@b"}
    assert explain(project, "train").reasons == ("models/main: not in the workspace",)
    happened = did(project)
    assert happened[Verdict.RUN] == set()
    assert happened[Verdict.SKIP] == forecast[Verdict.SKIP]


def test_results_that_are_only_on_the_remote_are_counted_in_bytes(fresh: Path, finished: Path) -> None:
    assert verdicts(fresh)[Verdict.PULL] == ALL
    train = explain(fresh, "train")
    files = [finished / "models/main/result.txt"]
    listing = len(json.dumps([{"md5": "0" * 32, "relpath": "result.txt"}]))
    assert train.pull_bytes == sum(file.stat().st_size for file in files) + listing
    assert "`dvc pull train` brings it" in train.reasons
    assert "after a pull of" in train.headline()
    run_in(fresh, "dvc", "pull", "train")
    assert explain(fresh, "train").verdict is Verdict.SKIP
    run_in(fresh, "dvc", "pull")
    assert verdicts(fresh)[Verdict.SKIP] == ALL
    assert did(fresh)[Verdict.SKIP] == ALL


def test_run_cache_of_the_remote_is_looked_into_in_a_fresh_clone(fresh: Path, project: Path) -> None:
    """A stage with a metric that git keeps runs again there: DVC pushes no copy of it with its run cache."""
    for folder in (project, fresh):
        change(folder, "params.yaml", "b: {steps: 4}", "b: {steps: 5}")
    run_in(project, "dvc", "repro", "evaluate@b")
    run_in(project, "dvc", "push", "--run-cache")
    sample = explain(fresh, "sample@b")
    assert sample.verdict is Verdict.PULL
    assert "`dvc repro --pull sample@b` brings it" in sample.reasons
    evaluate = explain(fresh, "evaluate@b")
    assert evaluate.verdict is Verdict.RUN
    assert evaluate.reasons == ("samples/b: changed",)
    printed = run_in(fresh, "dvc", "repro", "--pull", "evaluate@b")
    assert "Stage 'sample@b' is cached - skipping run" in printed
    assert "Running stage 'evaluate@b'" in printed


def test_stage_that_runs_tells_the_bytes_of_the_inputs_it_needs(fresh: Path) -> None:
    change(fresh, "params.yaml", "b: {steps: 4}", "b: {steps: 6}")
    sample = explain(fresh, "sample@b")
    assert sample.verdict is Verdict.RUN
    assert sample.pull_bytes == explain(fresh, "train").pull_bytes > 0
    assert "of inputs" in sample.headline()


def test_fresh_clone_without_a_remote_runs_all_and_says_what_is_lost(fresh: Path) -> None:
    run_in(fresh, "dvc", "remote", "remove", "shared")
    forecast = verdicts(fresh)
    assert forecast[Verdict.RUN] == ALL
    assert "models/main: neither in the workspace nor in the cache" in explain(fresh, "train").reasons
    assert explain(fresh, "train").headline() == "would run"
    assert did(fresh)[Verdict.RUN] == ALL


def test_remote_that_does_not_answer_is_named(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in(fresh, "dvc", "remote", "modify", "shared", "url", "s3://nowhere/x")
    run_in(fresh, "dvc", "remote", "modify", "shared", "endpointurl", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    prepare = explain(fresh, "prepare")
    assert prepare.verdict is Verdict.RUN
    assert any(reason.startswith("the remote could not be asked: ") for reason in prepare.reasons)


def test_bucket_of_the_environment_is_the_remote_where_none_is_configured(
    project: Path, fresh: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = f"s3://{s3.new_bucket()}/team"
    for key, value in {**s3.env, "CSPIPE_S3": shared}.items():
        monkeypatch.setenv(key, value)
    run_in(project, "dvc", "remote", "modify", "shared", "url", f"{shared}/dvc")
    run_in(project, "dvc", "push", "prepare")
    run_in(fresh, "dvc", "remote", "remove", "shared")
    forecast = {each.stage: each for each in explain_all(fresh)}
    assert forecast["prepare"].verdict is Verdict.PULL
    assert forecast["prepare"].pull_bytes == 89
    assert forecast["train"].verdict is Verdict.RUN
    assert forecast["train"].pull_bytes == 89


def test_stage_that_never_ran_says_so(project: Path) -> None:
    change(project, "params.yaml", "  b: {steps: 4}\n", "  b: {steps: 4}\n  c: {steps: 1}\n")
    assert explain(project, "sample@c").why() == ["dvc.lock has no entry: it has not run yet"]
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / ".dvc/cache/runs")
    run_in(project, "dvc", "remote", "remove", "shared")
    assert verdicts(project)[Verdict.RUN] == ALL | {"sample@c", "evaluate@c"}


def test_changed_code_is_named_after_later_commits_too(project: Path) -> None:
    change(project, "lib/scale.py", "2 *", "2.0 *")
    (project / "lib/more.py").write_text("")
    commit(project)
    assert "lib: changed (more.py, scale.py)" in explain(project, "prepare").reasons


def test_missing_input_that_no_stage_makes_is_named(project: Path) -> None:
    shutil.rmtree(project / "raw")
    assert "raw: missing, and no stage makes it" in explain(project, "prepare").reasons


def test_unknown_stage_gets_the_list_of_stages(project: Path) -> None:
    with pytest.raises(UserError, match=r"no stage 'trian' in dvc.yaml; it has .*train.*sample@a"):
        explain(project, "trian")


def test_unreadable_project_is_one_line(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not inside of a DVC repository"):
        explain_all(tmp_path)
    (project / "params.yaml").write_text("size: [1,\n")
    with pytest.raises(UserError) as caught:
        explain_all(project)
    assert "\n" not in str(caught.value)


def test_last_run_is_told_with_its_machine(project: Path) -> None:
    log = {"stage": "train", "started": "2026-01-01T00:00:00+00:00", "seconds": 4210.0, "device": "GPU X", "host": "h"}
    (project / "report/log").mkdir(parents=True)
    opening = '(window.runLog = window.runLog || {})["train"] = '
    (project / "report/log/train.js").write_text(f"{opening}{json.dumps(log)};\n")
    train = explain(project, "train")
    assert train.text() == "train: up to date\n  last run here took 1 h 10 min (GPU X, h)"
    assert train.markdown() == "**train** up to date\n\n- last run here took 1 h 10 min (GPU X, h)\n"
    assert json.loads(json.dumps(train.as_json()))["last_run"]["seconds"] == 4210.0
    (project / "report/log/train.js").write_text("damaged")
    assert explain(project, "train").last_run == {}


def test_asking_writes_nothing_and_needs_no_lock(fresh: Path) -> None:
    before = run_in(fresh, "git", "status", "--porcelain", "--ignored")
    cache = sorted((fresh / ".dvc").rglob("*"))
    (fresh / ".dvc/tmp").mkdir(exist_ok=True)
    assert table(explain_all(fresh)).count("\n") == len(ALL) - 1
    assert run_in(fresh, "git", "status", "--porcelain", "--ignored") in (before, before + "!! .dvc/tmp/\n")
    assert not [path for path in (fresh / ".dvc").rglob("*") if path not in cache and "tmp" not in path.parts]
