"""Running cells of a study: each by `dvc repro` in a git worktree, whose results become a DVC experiment.

A person may edit the repository meanwhile. The worktrees have the repository's DVC cache, so results of one cell are
restored in another.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.worktree import add_worktree, remove_worktree, save_as_experiment
from cspipe.study.definition import Cell
from cspipe.study.repository import Repository, tracked_images

MARK = "CSPIPE_STUDY"
"""Environment variable of all processes of a study's cells: the study's folder."""
SHARED_FOLDERS = (".cspipe/features", ".cspipe/lineage")
"""Folders that are shared; not training states, as a training resumed in another run would record only its time."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 60.0
"""Seconds between two reports of what running cells print."""
SECONDS_TO_DIE, ROUNDS = 5.0, 3


@dataclass(frozen=True)
class Running:
    """A cell that runs."""

    cell: Cell
    worktree: Path
    log: Path
    """What the cell prints."""
    process: subprocess.Popen[bytes]
    begun: float

    def last_line(self) -> str:
        """The last line that the cell has printed."""
        return (printed(self.log) or ["begins"])[-1]


@dataclass(frozen=True)
class Ended:
    """A cell that has ended."""

    cell: Cell
    done: bool
    seconds: float
    log: Path


def run_cells(
    repository: Repository, folder: Path, cells: Sequence[Cell], jobs: int, running: Callable[[str, str], None]
) -> Generator[Ended]:
    """Run cells, `jobs` at a time, and yield each as it ends.

    `folder` is the study's. `running` gets the name of each cell that runs and the last line that it printed, every
    minute. What still runs when the iterator is closed is killed, as is what a killed study has left.
    """
    waiting, at_work, told = deque(cells), list[Running](), time.monotonic()
    try:
        _kill_all(repository, folder)
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                at_work.append(_begin(repository, folder, waiting.popleft()))
            for each in [each for each in at_work if each.process.poll() is not None]:
                yield _finish(repository, each)
                at_work.remove(each)
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                for each in at_work:
                    running(each.cell.name, each.last_line())
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        _kill_all(repository, folder)


def printed(log: Path) -> list[str]:
    """The lines of a cell's log that are not empty."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip()]


def _begin(repository: Repository, folder: Path, cell: Cell) -> Running:
    """Start a cell in a new worktree."""
    root, log = folder / "worktrees" / cell.name, folder / f"{cell.name}.log"
    add_worktree(repository.root, root, repository.commit, *SHARED_FOLDERS)
    (root / "params.yaml").write_text(yaml.safe_dump(cell.tree, sort_keys=False), encoding="utf-8")
    log.write_bytes(b"")
    if images := tracked_images(root):
        _dvc(root, log, "checkout", "--quiet", *images).wait()  # `repro` says what is missing
    process = _dvc(root, log, "repro", *(f"evaluate@{variant}" for variant in cell.variants))
    return Running(cell, root, log, process, time.monotonic())


def _finish(repository: Repository, ended: Running) -> Ended:
    """Save the results of a cell that has ended well; remove its worktree."""
    seconds, done = time.monotonic() - ended.begun, ended.process.returncode == 0
    if done:
        try:
            save_as_experiment(ended.worktree, repository.commit, ended.cell.name)
        except UserError as error:  # other cells may still be saved
            done = False
            with ended.log.open("a", encoding="utf-8") as log:
                log.write(f"not saved: {error}\n")
    remove_worktree(repository.root, ended.worktree)
    return Ended(ended.cell, done, seconds, ended.log)


def _dvc(root: Path, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start DVC in a cell's worktree, out of reach of Ctrl-C in the terminal."""
    programs, folder = str(Path(sys.executable).parent), root.parent.parent
    environment = {
        **os.environ, "PATH": os.pathsep.join([programs, os.environ.get("PATH", "")]), MARK: str(folder),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),  # by default DVC keeps data of each worktree in /var/tmp
    }  # fmt: skip
    command = [sys.executable, "-m", "dvc", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=root, env=environment, stdout=file, stderr=file, start_new_session=True)


def _kill_all(repository: Repository, folder: Path) -> None:
    """Kill what runs of a study's cells, and remove their worktrees."""
    for _ in range(ROUNDS):  # a process may start another while it is looked for
        found = [process for process in psutil.process_iter() if _is_ours(process, folder)]
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=SECONDS_TO_DIE)
    for root in (folder / "worktrees").glob("*"):
        remove_worktree(repository.root, root)


def _is_ours(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
