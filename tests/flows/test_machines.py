"""The pipeline on two machines that share no disk, through the command line that people type. Minutes each."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import Tree
from tests.flows.machines import TINY, Machines, cloned, machines
from tests.flows.server import end, wait_for
from tests.s3_server import S3
from tests.stages.conftest import commit, run_in

pytestmark = pytest.mark.slow
LONG = {"train.images": 12000, "train.checkpoint_every": 800, "train.log_every": 800}
"""Overrides for a training that lasts long enough, on an idle machine too, to be disturbed."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Machines]:
    """Two machines with a worker each, and a supervisor."""
    with machines(tmp_path_factory.mktemp("machines"), s3) as made:
        made.worker("cpu", made.driver, "cpu")
        made.supervisor()
        yield made


@pytest.fixture(scope="module")
def undisturbed(place: Machines) -> dict[str, Any]:
    """What `dvc repro train` gives for the parameters of the disturbed runs: the stage's entry of dvc.lock."""
    folder = cloned(place.origin, place.driver.parent / "undisturbed")
    run_in(folder, "cspipe", "params", "use", "demo", "--force")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in LONG.items():
        params["train"][key.split(".")[1]] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run_in(folder, "dvc", "repro", "train")
    return dict(yaml.safe_load((folder / "dvc.lock").read_text())["stages"]["train"])


def applied(place: Machines, name: str, folder: str) -> Path:
    """A new clone to which somebody applies the experiment of a run."""
    clone = cloned(place.origin, place.driver.parent / folder)
    place.type("dvc", "remote", "add", "--local", "-d", "s3", f"s3://{place.bucket}/tests/dvc", clone=clone)
    place.type("dvc", "exp", "pull", "origin", name, clone=clone)
    place.type("dvc", "exp", "apply", name, clone=clone)
    return clone


def test_the_bare_name_trains_on_the_right_pools_and_anyone_can_apply_the_result(place: Machines) -> None:
    worker = place.worker("gpu", place.gpu, "gpu")
    ended = place.ended(place.train(), 600)
    assert ended.state is not None
    assert ended.state.is_completed(), f"{ended.state.message}\n{place.logs()}"

    with place.server.client() as client:
        stages = {run.name.split(" of ")[0]: run for run in client.read_flow_runs() if run.name.endswith(ended.name)}
    pools = {name: run.work_pool_name for name, run in stages.items() if name != ended.name}
    assert pools == dict.fromkeys(("train", "compensate", "sample@cs-10", "evaluate@cs-10"), "gpu")

    third = applied(place, ended.name, "third")
    done = place.type("dvc", "repro", clone=third)
    assert "Running stage" not in done.stdout
    assert "Data and pipelines are up to date." in done.stdout
    assert yaml.safe_load((third / "params.yaml").read_text())["train"]["images"] == TINY["train.images"]
    assert (third / "report/report.html").stat().st_size > 10_000
    end([worker])

    again = place.ended(place.train(), 300)  # with no worker of the pool gpu: the driver finds that nothing is to do
    assert again.state.is_completed(), f"{again.state.message}\n{place.logs()}"
    assert "6 restored from the run cache, not run" in again.state.message


def test_a_cancelled_run_stops_within_ten_seconds_and_its_state_is_kept(place: Machines) -> None:
    worker = place.worker("gpu-cancel", place.gpu, "gpu")
    queued = place.train(LONG)
    wait_for(lambda: place.states(), 300)
    name = place.read(queued).name
    assert place.working(name)
    place.type("prefect", "flow-run", "cancel", str(queued))
    cancelled = time.monotonic()
    wait_for(lambda: not place.working(name), 60)
    assert time.monotonic() - cancelled < 10
    assert place.ended(queued, 60).state.is_cancelled()
    assert place.states()
    end([worker])


def test_a_lost_machine_and_an_outage_of_s3_cost_nothing_but_time(place: Machines, undisturbed: dict[str, Any]) -> None:
    """The gpu worker's machine dies in mid-training; another takes over, S3 being away for 20 s meanwhile."""
    lost = place.worker("gpu-lost", place.gpu, "gpu")
    queued = place.train(LONG)
    wait_for(lambda: place.log_has("gpu-lost", "train: "), 300)
    before = set(place.states())
    wait_for(lambda: set(place.states()) - before, 120)
    end([lost])
    place.worker("gpu-another", cloned(place.origin, place.driver.parent / "another"), "gpu")
    wait_for(lambda: place.log_has("gpu-another", "train: going on from"), 400)
    place.s3.stop()
    time.sleep(20)
    place.s3.start()
    ended = place.ended(queued, 600)
    assert ended.state.is_completed(), f"{ended.state.message}\n{place.logs()}"
    clone = applied(place, ended.name, "fourth")
    lock = yaml.safe_load((clone / "dvc.lock").read_text())["stages"]["train"]
    assert lock["outs"] == undisturbed["outs"]


def write_faces(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")


def images_in(folder: str) -> Tree:
    return {"data.source": "folder", "data.path": folder, "data.limit": None}


def test_without_images_the_message_leads_to_a_run_from_those_of_the_workers_clone(place: Machines) -> None:
    worker = place.worker("gpu-images", place.gpu, "gpu")
    missing = str(place.ended(place.train(images_in("data/raw/here")), 600).state.message)
    assert "data.path data/raw/here is not in the clone of the cpu worker" in missing
    assert "`dvc add data/raw/here`" in missing
    write_faces(place.driver / "data/raw/here", 0)
    assert "6 ran" in place.ended(place.train(images_in("data/raw/here")), 600).state.message, place.logs()
    end([worker])


def test_images_that_dvc_tracks_reach_a_machine_that_never_had_them(place: Machines) -> None:
    """As data/raw/README.md says: dvc add, commit, dvc push, git push, and run."""
    worker = place.worker("gpu-tracked", place.gpu, "gpu")
    mine = cloned(place.origin, place.origin.parent / "mine")
    write_faces(mine / "data/raw/faces", 1)
    place.type("dvc", "remote", "add", "--local", "-d", "s3", f"s3://{place.bucket}/tests/dvc", clone=mine)
    place.type("dvc", "add", "data/raw/faces", clone=mine)
    commit(mine, "faces")
    run_in(mine, "git", "push", "-q")
    asked = ("train-demo", "-p", f"overrides={json.dumps(images_in('data/raw/faces'))}", "-p", "revision=main")
    missing = place.ended(place.queue(*asked, clone=mine), 600).state.message
    assert "`dvc push` in a clone that has them" in missing
    place.type("dvc", "push", clone=mine)
    assert "6 ran" in place.ended(place.queue(*asked, clone=mine), 600).state.message, place.logs()
    assert not (place.driver / "data/raw/faces").exists()
    end([worker])
