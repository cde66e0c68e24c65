"""A stage that asks for several GPUs: it gets them, waits for them, or is told at once that there are too few."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cspipe.runtime import gpu_lock
from flows.dvc_stage import StageRunner
from flows.failures import StageFailed
from flows.gpus import uuids
from flows.graph import Node
from flows.local.workers import GPUS_OF_ALL
from flows.workspace import Workspace
from tests.conftest import ROOT
from tests.stages.conftest import run_in

PIPELINE = """
stages:
  big:
    cmd: echo "$CUDA_VISIBLE_DEVICES" > seen && echo "$CSPIPE_GPUS" >> seen
    outs: [seen]
    meta: {pool: gpu, gpus: 2}
"""
HOLD = """import sys, time
from cspipe.runtime.gpu_lock import take_first
take_first(sys.argv[1:])
print(1)
time.sleep(600)"""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Three GPUs that nobody else has heard of; this machine's workers share the first two."""
    names = [f"test-{uuid4()}" for _ in range(3)]
    monkeypatch.setenv(GPUS_OF_ALL, ",".join(f"GPU-{name}" for name in names[:2]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"GPU-{names[0]}")
    yield names
    for name in names:
        gpu_lock.lock_file(name).unlink(missing_ok=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run_in(tmp_path, "git", "init", "-q")
    run_in(tmp_path, "dvc", "init", "-q")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def run(root: Path, count: int, lines: list[str]) -> list[str]:
    """Run the stage with so many GPUs; what it sees."""
    node = Node("big", "gpu", 1.0, (), (), (), count)
    StageRunner(Workspace(root, "", None), "run", lines.append, lambda step: None)(node)
    return (root / "seen").read_text().split()


def test_a_stage_sees_the_gpus_that_it_asked_for(gpus: list[str], root: Path) -> None:
    visible, granted = run(root, 2, [])
    assert visible == f"GPU-{gpus[0]},GPU-{gpus[1]}"
    assert granted == f"{gpus[0]},{gpus[1]}"


def test_a_stage_that_asks_for_nothing_sees_its_workers_gpu(gpus: list[str], root: Path) -> None:
    assert run(root, 1, []) == [f"GPU-{gpus[0]}"]


def test_a_stage_waits_for_a_gpu_that_another_worker_uses(gpus: list[str], root: Path) -> None:
    other = subprocess.Popen([sys.executable, "-u", "-c", HOLD, gpus[1]], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        lines = list[str]()

        def hear(line: str) -> None:
            lines.append(line)
            if "waiting" in line:
                assert not (root / "seen").exists()
                time.sleep(1)
                other.kill()

        node = Node("big", "gpu", 1.0, (), (), (), 2)
        StageRunner(Workspace(root, "", None), "run", hear, lambda step: None)(node)
    finally:
        other.kill()
        other.wait()
    assert f"GPU {gpus[1]} is used by process {other.pid}; waiting for it to end" in lines
    assert (root / "seen").exists()


def test_too_few_gpus_are_told_at_once(gpus: list[str], root: Path) -> None:
    with pytest.raises(
        StageFailed, match=r"^big: asks for 3 GPUs \(meta\.gpus in dvc\.yaml\) and .* have 2; run it on"
    ):
        run(root, 3, [])


def test_without_gpus_two_are_too_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPUS_OF_ALL, "")
    with pytest.raises(StageFailed, match="have 0; run it on a machine"):
        run(root, 2, [])


def test_uuids_need_no_driver() -> None:
    assert uuids(["GPU-7a", "GPU-8b"]) == ["7a", "8b"]
    assert uuids([]) == []
