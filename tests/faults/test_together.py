"""Two runs of a stage at once, and inputs that change under a stage that reads them."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from cspipe.runtime.ends import FOLDER, End
from tests.conftest import Tree, change
from tests.faults.conftest import Before
from tests.faults.workspace import STAGES, Stage, Started, hashes, refused, run, start

pytestmark = pytest.mark.slow
SHARD = Path("data/prepared/train-00000.npy")


def wait_for(started: Started, true: Callable[[], object]) -> None:
    """Until something is so, while the stage runs."""
    while not true():
        assert started.process.exitcode is None, started.told
        time.sleep(0.001)


def stopped_when(folder: Path, stage: Stage, true: Callable[[], object]) -> Started:
    """A stage that stands still since then."""
    started = start(folder, stage)
    wait_for(started, true)
    started.send(signal.SIGSTOP)
    return started


@pytest.mark.parametrize("stage", STAGES, ids="@".join)
def test_second_run_is_refused_and_the_first_ends_as_if_alone(
    stage: Stage, before: Before, steps: dict[Stage, Path]
) -> None:
    folder = before("shared", stage)
    ended = folder / FOLDER / f"{'@'.join(stage)}.json"
    first = stopped_when(folder, stage, ended.exists)
    refused(start(folder, stage), End.FAILED, str(first.process.pid), str(folder))
    assert first.said is not None
    assert first.said.end is End.KILLED, "what the first says of itself stands"
    first.send(signal.SIGCONT)
    assert first.end() == 0, first.told
    assert hashes(folder) == hashes(list(steps.values())[list(steps).index(stage) + 1])
    print(f"second run of {'@'.join(stage)} at once: refused, with the first's process; results changed: 0")


def other_pixels(path: Path) -> None:
    """Written in place, of the same size."""
    array = np.load(path, mmap_mode="r+")
    array[:] = 255 - array
    array.flush()


def other_file(path: Path) -> None:
    """Another file of the same size takes its place."""
    array = 255 - np.load(path)
    beside = path.with_name("new.npy")
    np.save(beside, array)
    beside.replace(path)


@pytest.mark.parametrize("change", [other_pixels, other_file, Path.unlink])
@pytest.mark.parametrize("stage", [("train",), ("compensate",)], ids="@".join)
def test_data_that_changes_under_a_training_ends_it(
    stage: Stage, change: Callable[[Path], None], before: Before, undisturbed: Path, tmp_path: Path,
) -> None:  # fmt: skip
    folder = before("changing", stage)
    shard = folder / SHARD
    kept = shutil.copy(shard, tmp_path)
    states = folder / ".cspipe/states" / stage[0]
    running = stopped_when(folder, stage, lambda: list(states.glob("*/*.pt")))
    change(shard)
    running.send(signal.SIGCONT)
    refused(running, End.FAILED, SHARD.name)
    shutil.copy(kept, shard)
    run(folder, stage)
    made = hashes(folder)
    assert made == {name: hashes(undisturbed)[name] for name in made}
    print(f"data changed under {stage[0]} ({change.__name__}): refused by name; results changed: 0")


def test_data_written_again_with_the_same_bytes_disturbs_nobody(before: Before, undisturbed: Path) -> None:
    folder = before("same", ("train",))
    states = folder / ".cspipe/states/train"
    running = stopped_when(folder, ("train",), lambda: list(states.glob("*/*.pt")))
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).unlink()
    (folder / SHARD).write_bytes(content)
    running.send(signal.SIGCONT)
    assert running.end() == 0, running.told
    made = hashes(folder)
    assert made == {name: hashes(undisturbed)[name] for name in made}


@pytest.mark.parametrize(
    ("stage", "begun", "changes"),
    [(("prepare",), "prepare/*/*.npy", {"data.limit": 70}), (("sample", "cs-10"), "sample/*/*.npz", {})],
)
def test_two_with_one_place_for_unfinished_work_wait_for_each_other(
    stage: Stage, begun: str, changes: Tree, smallest: Tree, before: Before, steps: dict[Stage, Path], tmp_path: Path,
) -> None:  # fmt: skip
    """Flow runs of a clone have folders of their own and the states in common: other data, or the same samples."""
    first, second, states = before("first", stage), before("second", stage), tmp_path / "states"
    (second / "params.yaml").write_text(yaml.safe_dump(change(smallest, changes)))
    states.mkdir()
    for folder in (first, second):
        shutil.rmtree(folder / ".cspipe/states", ignore_errors=True)
        (folder / ".cspipe").mkdir(exist_ok=True)
        (folder / ".cspipe/states").symlink_to(states)
    slow = stopped_when(first, stage, lambda: list(states.glob(begun)))
    fast = start(second, stage)
    fast.process.join(5)
    slow.send(signal.SIGCONT)
    assert slow.end() == 0, slow.told
    assert fast.end() == 0, fast.told
    after = hashes(list(steps.values())[list(steps).index(stage) + 1])
    assert hashes(first) == after
    assert changes or hashes(second) == after
    print(f"two of {'@'.join(stage)} with one place for unfinished work: both done; results changed: 0")
