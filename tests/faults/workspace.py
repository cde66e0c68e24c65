"""The pipeline as processes in folders of their own, to be disturbed and compared by their bytes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from multiprocessing.process import BaseProcess
from pathlib import Path

import yaml

from cspipe.runtime.ends import End, StageEnd, read_end
from tests.conftest import ROOT, Tree

Stage = tuple[str, ...]
"""A stage and its arguments, such as ("sample", "cs-10")."""
STAGES: list[Stage] = [
    ("prepare",), ("train",), ("compensate",), ("sample", "ddim-100"), ("sample", "cs-10"), ("evaluate", "ddim-100"),
    ("evaluate", "cs-10"), ("report",),
]  # fmt: skip
OUTPUTS = ("data/prepared", "models", "curves", "samples", "metrics", "neighbours", "report/report.html")
"""All that dvc.yaml declares."""
PATIENCE = 300.0
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload([f"cspipe.stages.{name}" for name in dict.fromkeys(stage[0] for stage in STAGES)])


def folder_with(folder: Path, params: Tree) -> Path:
    """A folder that stages run in: the pipeline and its parameters."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


def _main(folder: Path, stage: Stage, told: Path, environment: dict[str, str]) -> None:
    """The process of a stage."""
    os.setsid()
    handle = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = list(stage)
    importlib.import_module(f"cspipe.stages.{stage[0]}").main()


@dataclass
class Started:
    """A stage that runs."""

    folder: Path
    stage: Stage
    process: BaseProcess
    told_in: Path
    begun: float

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self.told_in.read_text() if self.told_in.exists() else ""

    @property
    def said(self) -> StageEnd | None:
        """How it says that it ended."""
        return read_end(self.folder, "@".join(self.stage))

    def send(self, number: int) -> None:
        """A signal to it and its workers."""
        assert self.process.pid is not None
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:  # it leads no group yet
            os.kill(self.process.pid, number)

    def end(self, seconds: float = PATIENCE) -> int:
        """Wait for it; returns its exit status."""
        self.process.join(seconds)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
        assert status is not None, f"{self.stage}: still running\n{self.told}"
        return status


def start(folder: Path, stage: Stage, **environment: str) -> Started:
    """Start a stage."""
    told = folder.parent / f"{folder.name}.{'@'.join(stage)}.{time.monotonic_ns()}.txt"
    process = FORK.Process(target=_main, args=(folder, stage, told, environment))
    process.start()
    return Started(folder, stage, process, told, time.monotonic())


def run(folder: Path, stage: Stage, **environment: str) -> Started:
    """Run a stage that has to end well."""
    started = start(folder, stage, **environment)
    assert started.end() == 0, started.told
    return started


def hashes(folder: Path) -> dict[str, str]:
    """md5 of every file of the outputs, by its path."""
    files = [path for name in OUTPUTS for path in [folder / name, *(folder / name).rglob("*")] if path.is_file()]
    return {str(path.relative_to(folder)): md5(path.read_bytes()).hexdigest() for path in files}


def refused(started: Started, end: End, *named: str) -> None:
    """The stage ended with this status and one line that names these."""
    assert started.end() == end, started.told
    line = started.told.strip().splitlines()[-1]
    assert line.startswith(f"cspipe {'@'.join(started.stage)}: "), started.told
    assert not [name for name in named if name not in line], line
    assert "Traceback" not in started.told


def stop_half_way(folder: Path, stage: Stage, half: Callable[[Path], bool]) -> Path:
    """Kill -9 a stage as soon as its states are as wanted; returns the folder."""
    started = start(folder, stage)
    while not half(folder / ".cspipe/states"):
        assert started.process.exitcode is None, started.told
        time.sleep(0.002)
    started.send(signal.SIGKILL)
    started.end()
    return folder
