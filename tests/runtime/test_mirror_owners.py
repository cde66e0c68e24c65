"""Who has a training: a second run waits while its owner lives, and takes over at once or later when it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cspipe.runtime import mirror
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.mirror import Mirror, RemoteState, TakenOver, forget
from cspipe.runtime.preemption import Preempted, sigterm_deferred, sigterm_raises
from cspipe.runtime.storage import Bucket
from tests.fixtures import FOLDER, Machine
from tests.runtime.test_mirror import CPU, manifest, save

BEAT, LOOK, LOOKS = 0.2, 0.15, 6
"""Seconds, and looks without a sign of life after which an owner is lost."""


@pytest.fixture(autouse=True)
def _living(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners live: a sign of life every 0.2 s, and without any for 0.9 s they are lost."""
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_BEATS", BEAT)
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_LOOKS", LOOK)
    monkeypatch.setattr(mirror, "LOOKS", LOOKS)


def test_second_run_waits_while_the_first_lives_and_leaves_it_the_training(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first stores no state for several times what a lost one gets, then ends, and its flow run pushes."""
    mine, other = (Checkpoints(tmp_path / run, "key", Mirror(bucket, FOLDER, run)) for run in ("a", "b"))
    mine.load(CPU)
    with ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(other.load, CPU)
        time.sleep(3 * LOOKS * LOOK)
        assert not waiting.done()
        save(mine, 10)
        mine.remove()
        forget(bucket, "states/train", "a")
        with pytest.raises(TakenOver, match="another worker finished this run"):
            waiting.result(20)
    assert capsys.readouterr().err.count(f"another worker has this run ({mine.mirror.owner}); waiting until") == 1
    assert list(bucket.list()) == []


def test_owner_that_hangs_is_replaced_and_finds_out_without_a_state(machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    go, put = threading.Event(), first.mirror._put_manifest

    def hang(states: list[RemoteState]) -> None:
        go.wait(60)
        put(states)

    first.load(CPU)
    save(first, 10)
    first.mirror._put_manifest = hang
    began = time.monotonic()
    assert second.load(CPU)[0] == 10
    assert time.monotonic() - began > 5 * LOOK
    go.set()
    time.sleep(5 * BEAT)
    with pytest.raises(TakenOver, match=second.mirror.owner):
        first.mirror.ask()
    save(second, 20)
    assert manifest(second.mirror.bucket)["owner"] == second.mirror.owner


def test_next_attempt_of_the_same_flow_run_does_not_wait(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss was noticed already."""
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_LOOKS", 600)
    first, again = (Checkpoints(tmp_path / name, "key", Mirror(bucket, FOLDER, "run")) for name in "ab")
    first.load(CPU)
    save(first, 10)
    assert again.load(CPU)[0] == 10


def test_process_of_this_machine_that_ended_is_not_waited_for(
    machine: Machine, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_LOOKS", 600)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    first = machine("a")
    first.mirror.owner = first.mirror.owner.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    first.load(CPU)
    save(first, 10)
    assert manifest(bucket)["owner"] == first.mirror.owner
    assert machine("b").load(CPU)[0] == 10


def test_sigterm_ends_the_wait(machine: Machine) -> None:
    first, second = machine("a"), machine("b")
    first.load(CPU)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Preempted), sigterm_raises(), sigterm_deferred():
        second.load(CPU)
    with sigterm_raises():
        pass  # the signal is forgotten
    first.mirror.ask()


def test_states_of_a_flow_run_stay_until_it_forgets_them(bucket: Bucket, tmp_path: Path) -> None:
    """A machine that is lost between a training's end and the push of its result costs no training."""
    mine, others = (Checkpoints(tmp_path / run, run, Mirror(bucket, f"states/train/{run}", run)) for run in ("a", "b"))
    for states in (mine, others):
        states.load(CPU)
        save(states, 10)
        states.remove()
    assert Checkpoints(tmp_path / "later", "a", Mirror(bucket, "states/train/a", "a")).load(CPU)[0] == 10
    forget(bucket, "states/train", "a")
    left = list(bucket.list())
    assert left
    assert all(key.startswith("states/train/b/") for key in left)
