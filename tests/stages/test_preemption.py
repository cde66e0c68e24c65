"""Stages as processes on machines that go away: SIGTERM, kill -9, another machine with the same bucket."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cspipe.runtime.ends import End, read_end
from cspipe.runtime.files import sha256_file
from tests.conftest import Tree, change
from tests.s3_server import ACCESS_KEY, S3, SECRET_KEY
from tests.stages.conftest import begun, new_clone, stage, stages, start, states, wait_until

OUTPUTS = {
    "train": ("models/main/model.safetensors", "models/main/progress.png", "curves/train/plots/metrics/loss.tsv"),
    "compensate": ("models/compensation/model.safetensors", "curves/compensate/plots/metrics/loss.tsv"),
}
Machine = Callable[[str], Path]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, two_variants: Tree) -> Path:
    """A clone with data. Tests leave it as it is."""
    longer = {"train.images": 2400, "train.log_every": 240, "train.checkpoint_every": 400, "compensation.epochs": 40}
    folder = new_clone(tmp_path_factory.mktemp("prepared") / "clone", change(two_variants, longer))
    stage(folder, "prepare")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A clone in which train and compensate have run undisturbed. Tests leave it as it is."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "clone")
    stages(folder, "train", "compensate")
    return folder


@pytest.fixture
def machine(finished: Path, tmp_path: Path) -> Machine:
    """machine("a"): a clone of its own with the data, and nothing of what was trained."""

    def new(name: str) -> Path:
        shutil.copytree(finished, tmp_path / name)
        for path in ("models/main", "curves", ".cspipe"):
            shutil.rmtree(tmp_path / name / path, ignore_errors=True)
        return tmp_path / name

    return new


def assert_as_undisturbed(name: str, folder: Path, finished: Path) -> None:
    for output in OUTPUTS[name]:
        assert sha256_file(folder / output) == sha256_file(finished / output), output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "end"),
    [
        ("train", signal.SIGTERM, End.PREEMPTED),
        ("train", signal.SIGINT, End.STOPPED),
        ("compensate", signal.SIGTERM, End.PREEMPTED),
    ],
)
def test_signal_stores_the_state_and_the_next_run_ends_with_the_same_bytes(
    name: str, number: signal.Signals, end: End, machine: Machine, finished: Path
) -> None:
    folder = machine("a")
    if name == "compensate":
        shutil.copytree(finished / "models/main", folder / "models/main")
    shutil.rmtree(folder / "models/compensation")
    for _ in range(2):
        process = start(folder, name)
        before = set(states(folder, name))
        wait_until(lambda before=before: set(states(folder, name)) - before, process)
        process.send_signal(number)
        sent = time.monotonic()
        _, told = process.communicate(timeout=400)
        assert process.returncode == end, told
        assert time.monotonic() - sent < 30, "Prefect kills after 30 seconds"
        assert "Traceback" not in told
        assert told.strip().splitlines()[-1].startswith(f"cspipe {name}: stopped at ")
        assert not (folder / OUTPUTS[name][0]).exists()
    assert "going on from" in stage(folder, name).stdout
    assert_as_undisturbed(name, folder, finished)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_run_that_lost_its_machine_ends_on_another_with_the_same_bytes(
    end: signal.Signals, machine: Machine, finished: Path, s3: S3
) -> None:
    first, second = machine("a"), machine("b")
    bucket = s3.new_bucket()
    environment = {**s3.env, "CSPIPE_S3": f"s3://{bucket}/somewhere"}

    def stored() -> list[str]:
        found = s3.client().list_objects_v2(Bucket=bucket, Prefix="somewhere/states/train/").get("Contents", [])
        return [entry["Key"] for entry in found if entry["Key"].endswith(".pt")]

    process = start(first, "train", **environment)
    wait_until(lambda: len(stored()) >= 2, process)
    process.send_signal(end)
    _, told = process.communicate(timeout=400)
    if end == signal.SIGTERM:
        assert process.returncode == 75, told
        assert max(states(first, "train")).name in {Path(key).name for key in stored()}, "the last state is in S3 too"
    process = start(second, "train", **environment)
    out, told = process.communicate(timeout=400)
    assert process.returncode == 0, told
    assert "train: going on from " in out
    assert_as_undisturbed("train", second, finished)
    left = s3.client().list_objects_v2(Bucket=bucket, Prefix="somewhere/states/")
    assert "Contents" not in left, "a finished run leaves no states"
    assert not [secret for secret in (ACCESS_KEY, SECRET_KEY) if secret in out + told]


@pytest.mark.slow
def test_run_that_was_taken_over_stops_with_one_message(machine: Machine, s3: S3) -> None:
    """Takes over two minutes: so long is an owner given to show that it lives."""
    first, second = machine("a"), machine("b")
    environment = {**s3.env, "CSPIPE_S3": f"s3://{s3.new_bucket()}/somewhere"}
    slow = begun(first, "train", **environment)
    slow.send_signal(signal.SIGSTOP)  # a machine that hangs
    fast = begun(second, "train", **environment)
    slow.send_signal(signal.SIGCONT)
    _, told = slow.communicate(timeout=400)
    fast.communicate(timeout=400)
    assert (slow.returncode, fast.returncode) == (End.TAKEN_OVER, 0), told
    assert read_end(first, "train").end is End.TAKEN_OVER
    assert read_end(second, "train").end is End.DONE
    assert "Traceback" not in told
    assert "another worker " in told.strip().splitlines()[-1]
    assert not (first / "models/main").exists()
    assert (second / "models/main/model.safetensors").exists()
