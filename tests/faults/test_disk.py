"""A full disk, folders that cannot be written, a clock set back: one line, no half outputs, and the rest later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cspipe.runtime.ends import End
from tests.conftest import Tree
from tests.faults.conftest import Before
from tests.faults.workspace import (
    OUTPUTS,
    STAGES,
    Stage,
    folder_with,
    hashes,
    refused,
    run,
    start,
    stop_half_way,
)  # fmt: skip

pytestmark = pytest.mark.slow
ROOM = (0, 1, 3, 10, 30, 100, 300, 1000)
"""Free pages of 4 KiB when a stage begins."""
WRITES: dict[Stage, str] = {
    ("prepare",): "data", ("train",): "models", ("compensate",): "models", ("sample", "cs-10"): "samples",
    ("evaluate", "cs-10"): "metrics", ("report",): "report",
}  # fmt: skip
FAKETIME = next(Path("/usr/lib").rglob("libfaketime.so.1"), None)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """Something mounted at a folder."""
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no right to mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def following(steps: dict[Stage, Path], stage: Stage) -> Path:
    """The folder after a stage of the undisturbed run."""
    return list(steps.values())[list(steps).index(stage) + 1]


def partial(folder: Path) -> list[Path]:
    """Files and folders that were not finished, among the outputs."""
    return [path for name in OUTPUTS for path in (folder / name.partition("/")[0]).rglob(".*.partial")]


@needs_root
@pytest.mark.parametrize("stage", WRITES, ids="@".join)
def test_full_disk_is_told_and_nothing_is_lost(stage: Stage, steps: dict[Stage, Path], tmp_path: Path) -> None:
    """With as little room as ROOM says, then with enough."""
    full, place = 0, tmp_path / "disk"
    after = hashes(following(steps, stage))
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
        for room in ROOM:
            for path in place.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(steps[stage], place, dirs_exist_ok=True)
            there = hashes(place)
            filler = place / "filler"
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - room * 4096)
            started = start(place, stage)
            if started.end() != 0:
                refused(started, End.CANNOT_WRITE, "full")
                full += 1
                left = {name: md5 for name, md5 in hashes(place).items() if not name.startswith("curves/")}
                assert left.items() <= after.items(), "half a result"
                assert there.items() <= hashes(place).items(), "something was lost"
                assert not partial(place)
            filler.unlink()
            if started.process.exitcode != 0:
                run(place, stage)
            assert hashes(place) == after, started.told
    assert full
    print(f"full disk in {'@'.join(stage)}: {full} of {len(ROOM)} runs had no room; results lost or changed: 0")


@needs_root
@pytest.mark.parametrize("stage", WRITES, ids="@".join)
def test_folder_that_cannot_be_written_is_told_and_nothing_is_lost(
    stage: Stage, before: Before, steps: dict[Stage, Path]
) -> None:
    folder = before("read-only", stage)
    place = folder / WRITES[stage]
    place.mkdir(exist_ok=True)
    there, after = hashes(folder), hashes(following(steps, stage))
    with mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        refused(start(folder, stage), End.CANNOT_WRITE, WRITES[stage])
        assert there.items() <= hashes(folder).items() <= after.items(), "half a result"
    run(folder, stage)
    assert hashes(folder) == after
    print(f"read-only folder in {'@'.join(stage)}: told, then done; results lost or changed: 0")


@pytest.mark.parametrize("days", [-4000, 4000])
def test_times_of_files_mean_nothing(days: int, smallest: Tree, tmp_path: Path, undisturbed: Path) -> None:
    """Those of states and work in progress too."""
    folder = folder_with(tmp_path / "clock", smallest)
    for stage in STAGES:
        if stage[0] in ("train", "compensate", "sample"):
            stop_half_way(folder, stage, lambda states, name=stage[0]: len(list(states.glob(f"{name}/*/*.[pn]*"))) > 1)
        for path in folder.rglob("*"):
            os.utime(path, (time.time() + 86400 * days,) * 2, follow_symlinks=False)
        run(folder, stage)
    assert hashes(folder) == hashes(undisturbed)
    print(f"all files {days} days from now before each stage, three of them killed: results changed: 0")


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime (Debian: apt-get install faketime)")
def test_clock_that_is_set_back_means_nothing(smallest: Tree, tmp_path: Path, undisturbed: Path) -> None:
    """By three days before each stage; three of them are killed half-way and go on in the past."""
    folder = folder_with(tmp_path / "back", smallest)
    for number, stage in enumerate(STAGES):
        if stage[0] in ("train", "compensate", "sample"):
            stop_half_way(folder, stage, lambda states, name=stage[0]: len(list(states.glob(f"{name}/*/*.[pn]*"))) > 1)
        command = [sys.executable, "-m", f"cspipe.stages.{stage[0]}", *stage[1:]]
        clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"-{3 * number + 3}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        done = subprocess.run(command, cwd=folder, env={**os.environ, **clock}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert hashes(folder) == hashes(undisturbed)
    print(f"clock set back by three days before each of {len(STAGES)} stages, three of them killed: changed: 0")
