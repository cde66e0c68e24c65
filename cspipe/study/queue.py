"""DVC's experiment queue in the clone of a study: filling, starting, watching and stopping it.

Only the study uses this queue, so a new start stops and empties what an earlier one may have left. Watching and
stopping call what `dvc queue status`, `kill`, `stop` and `remove` call, in this process: each command takes seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.shared_cache import CLONE, SHARED_CACHE
from cspipe.study.clone import Clone, experiments
from cspipe.study.definition import Cell

EXPERIMENTS = Path(".dvc/tmp/exps")
"""Folder in which DVC keeps the workers' files and the workspaces of running experiments."""
SECONDS_BETWEEN_LOOKS = 3.0  # each look takes a tenth of a second of a core that cells need
SECONDS_TO_APPEAR = 10.0
"""Seconds until a missing worker is restarted: Celery's ends if it reads a message that is still being written."""
SECONDS_WITHOUT_WORKERS = 20.0
"""Seconds without any worker after which cells that have not ended count as lost."""
SECONDS_TO_STOP = 5.0
SECONDS_BETWEEN_LINES = 60.0
"""Seconds between two reports of the progress of running cells."""


@dataclass(frozen=True)
class Ended:
    """A cell that has ended."""

    cell: Cell
    done: bool
    seconds: float
    log: Path | None
    """File of what the cell printed, or, if it was not begun, the log of a worker."""


class Queue:
    """DVC's experiment queue of a clone."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {
            **os.environ, "PATH": programs, SHARED_CACHE: str(clone.shared), "DVC_NO_ANALYTICS": "1",
            # where DVC keeps data of each workspace for good, by default in /var/tmp
            "DVC_SITE_CACHE_DIR": str(clone.folder / "site-cache"),
        }  # fmt: skip

    def fetch(self) -> None:
        """Fetch what DVC tracks in data/raw from the repository's cache. Raises UserError if the cache lacks it."""
        if tracked := git(self.clone.root, "ls-files", "data/raw/*.dvc").splitlines():
            self._dvc("fetch", "--remote", CLONE, *tracked)

    def put(self, cell: Cell) -> None:
        """Queue a cell. Raises UserError if DVC refuses."""
        params = self.clone.root / "params.yaml"
        params.write_text(yaml.safe_dump(cell.tree, sort_keys=False), encoding="utf-8")
        # git takes a file of the same size and second for unchanged
        os.utime(params, ns=(0, 0))
        targets = [f"evaluate@{variant}" for variant in cell.variants]
        try:
            self._dvc("exp", "run", "--queue", "--name", cell.name, *targets)
        finally:
            git(self.clone.root, "checkout", "--quiet", "--force", "--", "params.yaml")

    def start(self, jobs: int) -> None:
        """Start the workers. Raises UserError if DVC refuses."""
        self._dvc("queue", "start", "--jobs", str(jobs))

    def watch(self, cells: Sequence[Cell], jobs: int, running: Callable[[str, str], None]) -> Iterator[Ended]:
        """Yield queued cells as they end: when they are neither queued nor active, or no worker is left.

        Restarts workers while cells are queued and fewer than `jobs` are alive. Every minute `running` gets the name of
        each running cell and the last line that it printed.
        """
        queue = self._queue()
        waiting = {cell.name: cell for cell in cells}
        revisions: dict[str, str] = {}
        begun: dict[str, float] = {}
        last_seen = complete = told = time.monotonic()
        while waiting:
            now, workers = time.monotonic(), len(self._workers())
            last_seen = now if workers else last_seen
            lost = now - last_seen > SECONDS_WITHOUT_WORKERS
            queued = {entry.name: entry.stash_rev for entry in queue.iter_queued()}
            active = {entry.name: entry.stash_rev for entry in queue.iter_active()}  # after queued: none is missed
            if workers >= jobs or not queued:
                complete = now
            elif now - complete > SECONDS_TO_APPEAR:
                self.start(jobs)
                complete = now
            revisions |= queued | active
            begun = dict.fromkeys(active, now) | begun
            if now - told > SECONDS_BETWEEN_LINES:
                told = now
                _tell(queue, active, running)
            for name in [name for name in waiting if lost or name not in queued | active]:
                process = queue.proc.get(revisions.get(name, ""))
                log = self._worker_log() if process is None else Path(process.stdout)
                seconds = now - begun.get(name, now)
                yield Ended(waiting.pop(name), name in experiments(self.clone.root), seconds, log)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def stop(self) -> None:
        """Stop the workers and everything that they run, and empty the queue."""
        queue, workers = self._queue(), self._workers()
        if workers:
            queue.shutdown()
            queue.kill([entry.stash_rev for entry in queue.iter_active()])
        for worker in psutil.wait_procs(workers, timeout=SECONDS_TO_STOP)[1]:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.killpg(os.getpgid(worker.pid), signal.SIGKILL)  # DVC gives each worker a group
        psutil.wait_procs(workers, timeout=SECONDS_TO_STOP)
        left = [entry.stash_rev for entry in queue.iter_active()]
        for revision in left:
            del queue.proc[revision]  # its process id may be that of another process by now
        queue.kill(left)  # marks them as failed
        queue.clear(queued=True, failed=True, success=True)
        for folder in (self.clone.root / EXPERIMENTS).glob("tmp*"):
            shutil.rmtree(folder, ignore_errors=True)  # DVC leaves the workspace of a killed experiment

    def _queue(self) -> Any:
        """Return DVC's own queue object of the clone."""
        from dvc.repo import Repo

        return Repo(str(self.clone.root)).experiments.celery_queue

    def _workers(self) -> list[psutil.Process]:
        """Return the workers that are alive."""
        found = []
        for file in (self.clone.root / EXPERIMENTS / "celery").glob("*.pid"):
            try:
                process = psutil.Process(int(file.read_text()))
                if Path(process.cwd()).is_relative_to(self.clone.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, ValueError, psutil.Error):
                continue
        return found

    def _worker_log(self) -> Path | None:
        return next(iter(sorted((self.clone.root / EXPERIMENTS / "celery").glob("*.out"))), None)

    def _dvc(self, *arguments: str) -> None:
        """Run a DVC command. Its output goes to a file: the workers it starts would hold a pipe open until they end."""
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [sys.executable, "-m", "dvc", *arguments],
                cwd=self.clone.root, env=self.environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            output.seek(0)
            lines = output.read().strip().splitlines()
        if done.returncode:
            reason = lines[-1] if lines else "no message"
            raise UserError(f"dvc {' '.join(arguments[:3])} in {self.clone.root}: {reason}")


def printed(log: Path) -> list[str]:
    """Return the lines of a cell's log that are not empty."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip()]


def _tell(queue: Any, active: Mapping[str, str], running: Callable[[str, str], None]) -> None:
    """Pass the name and last printed line of each active cell to `running`; `active` has DVC's revisions by name."""
    for name, revision in active.items():
        process = queue.proc.get(revision)
        lines = [] if process is None or not Path(process.stdout).is_file() else printed(Path(process.stdout))
        running(name, lines[-1] if lines else "begins")
