"""A study from nothing to its table, in a temporary clone with real DVC. Minutes, so marked slow."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from cspipe.study.repository import experiments
from tests.conftest import Tree, change
from tests.stages.conftest import commit, new_clone, run_in

pytestmark = pytest.mark.slow
STUDY: Tree = {
    "question": "Does it run?",
    "seeds": [0],
    "rows": {
        "plain": {"train.method": "plain", "data.source": "npz", "data.path": "data/raw/made.npy"},
        "cs": {"variants": ["cs-10"]},
        # data/raw has no images
        "broken": {"data.source": "folder", "data.path": "data/raw/none"},
    },
    "variants": ["ddim-100"],
    "scores": ["frechet", "recall"],
}
NAMES = {"tiny-plain-0", "tiny-cs-0"}


def study(clone: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run_in(clone, "cspipe", "study", *arguments, check=check)


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    folder = new_clone(tmp_path_factory.mktemp("study").resolve() / "clone", small)
    place = folder / "studies/tiny"
    place.mkdir(parents=True)
    (place / "params.yaml").write_text(yaml.safe_dump(change(small, {"train.images": 96}), sort_keys=False))
    (place / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    images = np.random.default_rng(0).integers(0, 256, (600, 8, 8, 3), np.uint8)
    np.save(folder / "data/raw/made.npy", images)
    run_in(folder, "dvc", "add", "data/raw/made.npy")
    return folder


def test_study_that_is_not_committed_does_not_start(clone: Path) -> None:
    refused = study(clone, "tiny", check=False)
    assert refused.returncode == 1
    assert "studies/tiny" in refused.stderr
    assert "commit first" in refused.stderr
    commit(clone, "study")


def test_interrupt_stops_everything_and_keeps_the_clone_clean(clone: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    command = [str(Path(sys.executable).parent / "cspipe"), "study", "tiny"]
    running = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        for line in running.stdout:
            if line.endswith("to run, 1 at a time\n"):
                break
        deadline = time.monotonic() + 120
        while not any("cspipe.stages" in " ".join(p.cmdline()) for p in processes_in(clone / ".cspipe")):
            assert time.monotonic() < deadline
            time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    finally:
        running.kill()
    assert processes_in(clone / ".cspipe") == []
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""


def test_cell_that_fails_does_not_lose_the_others(clone: Path) -> None:
    done = study(clone, "tiny", "--jobs", "2", check=False)
    assert done.returncode == 1
    assert "3/3" in done.stdout
    assert experiments(clone).keys() >= NAMES
    results = json.loads((clone / "docs/results/tiny.json").read_text())
    cells = {cell["row"]: cell for cell in results["cells"]}
    assert "data/raw/none" in cells["broken"]["failed"]
    assert cells["cs"]["variants"]["cs-10"]["compensate_seconds"] > 0
    assert cells["cs"]["train_seconds"] > 0
    assert cells["plain"]["variants"]["ddim-100"]["scores"]["frechet"] > 0
    assert "tiny-broken-0" in (clone / "docs/results/tiny.md").read_text()
    assert (clone / ".cspipe/study/tiny/tiny-broken-0.log").is_file()
    assert (clone / "docs/results/tiny.png").stat().st_size > 1000


def test_second_run_does_what_is_left_and_the_third_only_the_table(clone: Path) -> None:
    """The broken row goes; with it the definition changes, but no finished cell runs again."""
    rows = {name: row for name, row in STUDY["rows"].items() if name != "broken"}
    (clone / "studies/tiny/study.yaml").write_text(yaml.safe_dump({**STUDY, "rows": rows}, sort_keys=False))
    commit(clone, "without the broken row")
    before = (clone / "docs/results/tiny.json").read_bytes()
    done = study(clone, "tiny", "--jobs", "2", "--json")
    assert "2 cells, 2 done, 0 to run" in done.stderr
    after = (clone / "docs/results/tiny.json").read_bytes()
    assert after != before
    assert json.loads(done.stdout) == json.loads(after)
    commit(clone, "results")


def test_verify_runs_afresh_and_finds_the_same_digits(clone: Path) -> None:
    done = study(clone, "tiny", "--jobs", "2", "--verify")
    assert "2 cells, 0 done, 2 to run" in done.stdout
    assert "compared to the printed digits" in done.stdout
    assert "is reproduced" in done.stdout


def test_verify_of_a_part_of_the_cells_tells_the_rows_that_differ(clone: Path) -> None:
    refused = study(clone, "tiny", "--cells", "1", check=False)
    assert refused.returncode == 1
    assert "--verify" in refused.stderr
    file = clone / "docs/results/tiny.json"
    tree = json.loads(file.read_text())
    next(cell for cell in tree["cells"] if cell["row"] == "cs")["variants"]["cs-10"]["scores"]["frechet"] += 1
    file.write_text(json.dumps(tree))
    done = study(clone, "tiny", "--verify", "--cells", "1", check=False)
    assert done.returncode == 1
    assert "1 cells, 0 done, 1 to run" in done.stdout
    assert "differs: cs / cs-10, frechet" in done.stdout
    assert "recall" not in done.stdout.split("differs:")[1]
