"""kill -9 at 200 moments over all stages, the same command run again after each."""

from __future__ import annotations

import random
import signal
import time

import pytest

from cspipe.runtime.ends import End
from tests.conftest import Tree
from tests.faults.workspace import STAGES, Path, Stage, folder_with, hashes, run, start

pytestmark = pytest.mark.slow
KILLS = 200


def seconds_of(folder: Path, smallest: Tree) -> dict[Stage, float]:
    """How long each stage takes now, from its start."""
    other = folder_with(folder, smallest)
    return {stage: time.monotonic() - run(other, stage).begun for stage in STAGES}


def test_two_hundred_kills_change_no_byte(tmp_path: Path, smallest: Tree, undisturbed: Path) -> None:
    chance, folder = random.Random(0), folder_with(tmp_path / "killed", smallest)
    seconds, kills, starts, at = seconds_of(tmp_path / "timed", smallest), 0, 0, []
    for number, stage in enumerate(STAGES):
        while kills < KILLS * (number + 1) // len(STAGES):
            after = chance.uniform(0, 1)
            started, starts = start(folder, stage), starts + 1
            started.process.join(after * seconds[stage])
            if started.process.exitcode is not None:  # it was quicker than the moment
                assert started.end() == 0, started.told
                seconds[stage] *= 0.8
                continue
            started.send(signal.SIGKILL)
            assert started.end() == -signal.SIGKILL
            assert started.said is None or started.said.end in (End.KILLED, End.DONE)
            kills += 1
            at.append(f"{'@'.join(stage)} {after:.0%}")
        run(folder, stage)
    assert hashes(folder) == hashes(undisturbed)
    assert not list((folder / ".cspipe/states").glob("*/*/*")), "finished runs leave no states"
    print(f"kills: {kills} in {starts + len(STAGES)} starts of {len(STAGES)} stages; results lost or changed: 0")
