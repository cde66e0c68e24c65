"""The offline run of Weights & Biases, read back with its own reader: it tells what our files tell."""

import csv
import json
import signal
from pathlib import Path

import pytest

from cspipe.runtime.ends import End
from cspipe.runtime.models import read_config
from tests.conftest import Tree, change
from tests.stages.conftest import begun, new_clone, run_in, set_params, stage


def inspected(run: Path) -> tuple[Tree, dict[str, list[Tree]]]:
    """(state, config, summary and more; records by type)."""
    told = run_in(run, "wandb", "leet", "inspect", "--json", str(run)).stdout
    records: dict[str, list[Tree]] = {}
    for record in map(json.loads, told.splitlines()):
        records.setdefault(record["type"], []).append(record[record["type"]])
    return json.loads(run_in(run, "wandb", "leet", "inspect", "--json", "--summary", str(run)).stdout), records


def curve_of_files(curves: Path) -> dict[str, dict[int, float]]:
    """Of each name, the value at the images seen: what DVCLive wrote."""
    files = {path.stem: path.read_text().splitlines() for path in (curves / "plots/metrics").glob("*.tsv")}
    rows = {name: csv.DictReader(lines, delimiter="\t") for name, lines in files.items()}
    return {name: {int(row["step"]): float(row[name]) for row in found} for name, found in rows.items()}


def curve_of_wandb(history: list[Tree]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for point in history:
        for name, value in point["item"].items():
            if not name.startswith("_"):
                found.setdefault(name, {})[point["step"]["num"]] = value
    return found


def test_an_offline_run_lasts_and_tells_what_our_files_tell(clone: Path, tmp_path: Path) -> None:
    """In a flow's workspace .cspipe/wandb is a link to the clone's."""
    set_params(clone, {"tracking.wandb": "offline"})
    folder = tmp_path / "kept"
    folder.mkdir()
    (clone / ".cspipe/wandb").symlink_to(folder)
    told = stage(clone, "train").stdout
    (run,) = folder.glob("offline-run-*")
    assert f"Weights & Biases: the run is in {run}; `wandb sync {run}` sends it" in told
    whole, records = inspected(run)
    assert (whole["state"], whole["exit_code"], whole["project"]) == ("finished", 0, "cspipe")
    config = read_config(clone / "models/main", "train")
    assert config.pop("images_seen") == whole["step"]
    assert whole["config"] == config
    curves = clone / "curves/train"
    assert curve_of_wandb(records["history"]) == curve_of_files(curves)
    summary = {key: value for key, value in whole["summary"].items() if not key.startswith("_")}
    assert summary | {"step": whole["step"]} == json.loads((curves / "metrics.json").read_text())
    ours = json.loads((clone / "report/log/train.js").read_text().partition("] = ")[2].rstrip(";\n"))
    machine, *_ = records["environment"]
    assert machine["host"] == ours["host"]
    assert machine["git"]["commit"].startswith(ours["commit"].partition("-")[0])


@pytest.mark.slow
def test_a_run_that_was_stopped_did_not_finish_and_the_next_is_the_same_run_with_the_whole_curve(
    tmp_path: Path, two_variants: Tree
) -> None:
    longer = {"train.images": 2400, "train.log_every": 240, "train.checkpoint_every": 400}
    clone = new_clone(tmp_path / "clone", change(two_variants, longer | {"tracking.wandb": "offline"}))
    stage(clone, "prepare")
    process = begun(clone, "train")
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in "".join(process.communicate(timeout=400))
    assert process.returncode == End.PREEMPTED
    assert "going on from" in stage(clone, "train").stdout
    runs = sorted((clone / ".cspipe/wandb").glob("offline-run-*"))
    (stopped, _), (whole, records) = map(inspected, runs)
    assert len({run.name.split("-", 3)[3] for run in runs}) == 1  # its id
    assert (stopped["state"], stopped["exit_code"]) == ("failed", End.PREEMPTED)
    assert (whole["state"], whole["step"]) == ("finished", 2400)
    assert curve_of_wandb(records["history"]) == curve_of_files(clone / "curves/train")
