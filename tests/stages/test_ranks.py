"""Stages in several processes (gloo, on the CPU) by their own command: lost, stopped, resumed, on two machines."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from safetensors.torch import load_file

from cspipe.runtime.ends import End, read_end
from cspipe.runtime.files import sha256_file
from tests.conftest import ROOT, Tree, change
from tests.stages.conftest import begun, set_params, stage, start

pytestmark = pytest.mark.slow
MODEL = "models/main/model.safetensors"
LONG = {
    "train.images": 320,
    "train.batch": 8,
    "train.log_every": 80,
    "train.checkpoint_every": 80,
    "train.grid_every": 320,
}
Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    """A folder with prepared data; others are copies of it."""
    folder = tmp_path_factory.mktemp("ranks") / "prepared"
    folder.mkdir()
    shutil.copy(ROOT / "dvc.yaml", folder)
    variants = {name: small["variants"][name] for name in ("ddim-100",)}
    (folder / "params.yaml").write_text(yaml.safe_dump(change(small, {"variants": variants}), sort_keys=False))
    stage(folder, "prepare")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Folder:
    """folder("a", {"compute.gpus": 2}): a copy with other parameters."""

    def new(name: str, changes: Tree) -> Path:
        shutil.copytree(prepared, tmp_path / name)
        set_params(tmp_path / name, changes)
        return tmp_path / name

    return new


def ranks(process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    return {child.environ()["RANK"]: child for child in psutil.Process(process.pid).children()}


def ended(process: subprocess.Popen[str], folder: Path, end: End, within: float) -> str:
    """What a stage said last, which ended so in time and left no process."""
    began = time.monotonic()
    _, told = process.communicate(timeout=400)
    assert process.returncode == end, told
    assert time.monotonic() - began < within
    assert "Traceback" not in told
    said = read_end(folder, "train")
    assert said is not None
    assert said.end is end
    assert told.strip().splitlines()[-1] == f"cspipe train: {said.message}"
    return said.message


@pytest.mark.parametrize("lost", ["0", "1"])
def test_a_lost_rank_ends_the_stage_by_name_and_one_process_goes_on(lost: str, folder: Folder) -> None:
    place = folder("a", {**LONG, "compute.gpus": 2})
    process = begun(place, "train")
    both = ranks(process)
    both[lost].kill()
    assert ended(process, place, End.KILLED, 30).startswith(f"rank {lost} was killed by signal 9")
    assert not any(rank.is_running() for rank in both.values())
    set_params(place, {"compute.gpus": 1})
    assert "going on from" in stage(place, "train").stdout


@pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, End.PREEMPTED), (signal.SIGINT, End.STOPPED)])
def test_signal_reaches_all_and_the_same_command_ends_with_the_same_bytes(
    number: signal.Signals, end: End, folder: Folder
) -> None:
    whole, place = (folder(name, {**LONG, "compute.gpus": 2}) for name in "ab")
    stage(whole, "train")
    process = begun(place, "train")
    process.send_signal(number)
    assert ended(process, place, end, 30).startswith("stopped at ")
    assert "going on from" in stage(place, "train").stdout
    assert sha256_file(place / MODEL) == sha256_file(whole / MODEL)
    loss = "curves/train/plots/metrics/loss.tsv"
    assert (place / loss).read_text() == (whole / loss).read_text()


def test_second_interrupt_waits_for_no_rank(folder: Folder) -> None:
    place = folder("a", {**LONG, "compute.gpus": 2})
    process = begun(place, "train")
    both = list(ranks(process).values())
    for rank in both:
        rank.suspend()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    ended(process, place, End.STOPPED, 10)
    assert not any(rank.is_running() for rank in both)


def test_ranks_end_with_their_launcher(folder: Folder) -> None:
    place = folder("a", {**LONG, "compute.gpus": 2})
    process = begun(place, "train")
    both = list(ranks(process).values())
    process.kill()
    assert not psutil.wait_procs(both, timeout=10)[1]
    process.communicate()


def test_what_a_rank_refuses_is_one_line(folder: Folder) -> None:
    place = folder("a", {"compute.gpus": 3})
    message = ended(start(place, "train"), place, End.FAILED, 60)
    assert "batch of 8" in message
    assert "compute.gpus" in message


def test_samples_are_those_of_one_process_bit_for_bit(folder: Folder) -> None:
    place, found = folder("a", {"sample.images": 21, "sample.batch": 4}), []
    stage(place, "train")
    for gpus in (1, 3):
        set_params(place, {"compute.gpus": gpus})
        stage(place, "sample", "ddim-100")
        found.append({file.name: sha256_file(file) for file in (place / "samples/ddim-100").iterdir()})
    assert found[0] == found[1]
    assert np.load(place / "samples/ddim-100/samples.npy").shape[0] == 21


def test_scores_are_those_of_one_process_to_the_digit(folder: Folder) -> None:
    changes = {"sample.images": 21, "evaluate.images": 21, "evaluate.batch": 8, "evaluate.kid_subset_size": 8}
    place, found = folder("a", changes), []
    stage(place, "train")
    stage(place, "sample", "ddim-100")
    for gpus in (1, 2, 4):  # of three batches of 21 images and one of 12
        shutil.rmtree(place / ".cspipe/features", ignore_errors=True)
        set_params(place, {"compute.gpus": gpus})
        stage(place, "evaluate", "ddim-100")
        features = sorted(file.name for file in (place / ".cspipe/features").iterdir())  # names have their sha256
        found.append(((place / "metrics/ddim-100.json").read_text(), features))
    assert found[0] == found[1] == found[2]
    stage(place, "evaluate", "ddim-100")  # from what is kept, in four processes
    assert (place / "metrics/ddim-100.json").read_text() == found[0][0]


def test_two_machines_train_as_one(folder: Folder) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = [folder(name, {"compute.nodes": 2, "compute.gpus": 2}) for name in ("first", "second")]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    started = [start(place, "train", **shared, NODE_RANK=str(node)) for node, place in enumerate(places)]
    for process in started:
        _, told = process.communicate(timeout=400)
        assert process.returncode == 0, told
    whole = folder("whole", {})
    stage(whole, "train")
    ours, theirs = load_file(places[0] / MODEL), load_file(whole / MODEL)
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-4
    assert not (places[1] / MODEL).exists()
    set_params(whole, {"compute.nodes": 2})
    refused = stage(whole, "train", check=False)
    assert refused.returncode == End.FAILED
    assert "NODE_RANK" in refused.stderr
