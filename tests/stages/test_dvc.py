"""The pipeline as users of DVC meet it: the real commands in a temporary clone."""

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Tree
from tests.stages.conftest import run_in, set_params

CELLS = {f"{stage}@{variant}" for stage in ("sample", "evaluate") for variant in ("ddim-100", "cs-10")}
ALL = {"prepare", "train", "compensate", "report", *CELLS}


def changed_stages(clone: Path, changes: Tree) -> set[str]:
    """Stages that are out of date themselves once params.yaml has changed; what follows from them runs after them."""
    set_params(clone, changes)
    return set(json.loads(run_in(clone, "dvc", "status", "--json").stdout))


def test_fresh_clone_reproduces_every_byte_and_ends_with_the_table(finished: Path, tmp_path: Path) -> None:
    """Same inputs, same bytes: after a run from nothing git sees no change in dvc.lock, metrics or curves.

    A second run does nothing, and says so.
    """
    run_in(tmp_path, "git", "clone", "-q", str(finished), "fresh")
    output = run_in(tmp_path / "fresh", "dvc", "repro").stdout
    assert "report: file://" in output
    assert output.index("KID") < output.index("report: file://")
    assert (tmp_path / "fresh/report/report.html").stat().st_size > 10_000
    assert run_in(tmp_path / "fresh", "git", "status", "--porcelain").stdout == ""
    assert "Data and pipelines are up to date." in run_in(tmp_path / "fresh", "dvc", "repro").stdout
    assert run_in(tmp_path / "fresh", "git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tracking.project": "other"}, {"report"}),
        ({"evaluate.kid_subsets": 5}, {"evaluate@ddim-100", "evaluate@cs-10", "report"}),
        ({"variants.cs-10.steps": 4}, {"sample@cs-10", "report"}),
        ({"compensation.epochs": 2}, {"compensate", "report"}),
        ({"train.learning_rate": 0.002}, {"train", "report"}),
        ({"data.avatars.style": "lorelei"}, {"prepare", "report"}),
    ],
)
def test_changed_parameter_runs_only_what_depends_on_it(clone: Path, changes: Tree, expected: set[str]) -> None:
    assert changed_stages(clone, changes) == expected


def test_changed_picture_is_noticed(clone: Path) -> None:
    (clone / "data/raw/new.png").write_bytes(b"")
    assert changed_stages(clone, {}) == {"prepare"}


def test_params_metrics_and_plots_read_well(clone: Path) -> None:
    changed_stages(clone, {"evaluate.kid_subsets": 5})
    assert "evaluate.kid_subsets" in run_in(clone, "dvc", "params", "diff").stdout
    shown = run_in(clone, "dvc", "metrics", "show").stdout
    assert "efflite0.kid" in shown
    assert "provenance" not in shown
    metrics = clone / "metrics/cs-10.json"
    metrics.write_text(metrics.read_text().replace('"kid": ', '"kid": 1'))
    assert "efflite0.kid" in run_in(clone, "dvc", "metrics", "diff").stdout
    run_in(clone, "dvc", "plots", "show")
    page = (clone / "dvc_plots/index.html").read_text()
    assert "images seen" in page
    assert run_in(clone, "git", "status", "--porcelain", "dvc_plots").stdout == ""
    dag = run_in(clone, "dvc", "dag", "--mermaid").stdout
    assert all(name in dag for name in ALL)


def test_experiments_run_and_queue_and_are_compared_in_a_terminal(clone: Path) -> None:
    done = run_in(clone, "dvc", "exp", "run", "-n", "four-steps", "-S", "variants.cs-10.steps=4")
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {"sample@cs-10", "evaluate@cs-10", "report"}
    assert json.loads((clone / "samples/cs-10/samples.json").read_text())["steps"] == 4
    assert " workspace " in run_in(clone, "cspipe", "experiments").stdout
    run_in(clone, "git", "checkout", "-q", ".")
    run_in(clone, "dvc", "exp", "run", "-n", "few", "-S", "evaluate.kid_subsets=5", "evaluate@ddim-100")
    run_in(clone, "git", "checkout", "-q", ".")
    assert "four-steps" in run_in(clone, "dvc", "exp", "show", "--csv").stdout
    lines = run_in(clone, "cspipe", "experiments").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for name, changes in (("few", "evaluate.kid_subsets=5"), ("four-steps", "variants.cs-10.steps=4")):
        (line,) = [line for line in lines if f" {name} " in line]
        assert line.split()[1:3] == [changes, "ddim-100"]
        assert line.split()[4] == "±"
    assert lines[2].split()[:2] == ["main", "ddim-100"], "the workspace is as the commit, and not shown twice"
    run_in(clone, "dvc", "exp", "run", "--queue", "-S", "compensation.epochs=1,5,10")
    assert run_in(clone, "dvc", "queue", "status").stdout.count("Queued") == 3


def test_variant_can_be_added_without_running_the_others(clone: Path) -> None:
    params = yaml.safe_load((clone / "params.yaml").read_text())
    row = {**params["variants"]["ddim-100"], "steps": 2}
    assert changed_stages(clone, {"variants.ddim-2": row}) == {"sample@ddim-2", "evaluate@ddim-2", "report"}


@pytest.mark.slow
def test_variants_of_another_preset_leave_nothing_behind(clone: Path, two_variants: Tree) -> None:
    """Their entries stay in dvc.lock, where DVC ignores them; the report depends on what is there."""
    few = two_variants["variants"]["ddim-100"] | {"steps": 2}
    changed_stages(clone, {"variants": {"cs-10": two_variants["variants"]["cs-10"], "ddim-2": few}})
    done = run_in(clone, "dvc", "repro")
    assert "removed outputs of variants that params.yaml no longer has: ddim-100\n" in done.stdout
    left = {file.stem for name in ("samples", "neighbours", "metrics") for file in (clone / name).iterdir()}
    assert left == {"cs-10", "ddim-2"}
    files = {dep["path"]: dep.get("nfiles") for dep in lock(clone)["report"]["deps"]}
    assert (files["samples"], files["neighbours"], files["metrics"]) == (8, 2, 2)
    assert "sample@ddim-100" in lock(clone)
    assert "Data and pipelines are up to date." in run_in(clone, "dvc", "repro").stdout
    assert run_in(clone, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."


def lock(clone: Path) -> Tree:
    return dict(yaml.safe_load((clone / "dvc.lock").read_text())["stages"])
