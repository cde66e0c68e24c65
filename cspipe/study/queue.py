"""DVC's experiment queue in the clone of a study: filled, started, watched, stopped.

The queue is the study's alone, so a new start empties it and ends what an earlier one may have left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.shared_cache import SHARED_CACHE
from cspipe.study.clone import Clone, git
from cspipe.study.definition import Cell

TMP = Path(".dvc/tmp/exps")
"""Where DVC keeps queue and running experiments."""
COLLECTED, FAILED = (6, 4)
"""DVC's TaskStatus of experiments that have ended."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_WITHOUT_WORKERS = 20.0
"""After which what has not ended is taken for lost: workers need a moment to appear."""
SECONDS_TO_STOP = 5.0


@dataclass(frozen=True)
class Ended:
    """A cell that has ended."""

    cell: Cell
    done: bool
    seconds: float
    log: Path | None
    """What it printed."""


class Queue:
    """The queue of a clone; `lender` is whose lineage records and features the stages use."""

    def __init__(self, clone: Clone, lender: Path) -> None:
        self.clone = clone
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {**os.environ, "PATH": programs, SHARED_CACHE: str(lender), "DVC_NO_ANALYTICS": "1"}

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

    def watch(self, cells: Sequence[Cell]) -> Iterator[Ended]:
        """Yield queued cells as they end."""
        waiting = {cell.name: cell for cell in cells}
        begun: dict[str, float] = {}
        last_seen = time.monotonic()
        while waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            now = time.monotonic()
            if self._processes():
                last_seen = now
            runs = {info["name"]: (info["status"], log) for info, log in self._runs() if info["name"] in waiting}
            for name, (status, log) in runs.items():
                begun.setdefault(name, now)
                if status in (COLLECTED, FAILED):
                    done = name in self.clone.experiments()
                    yield Ended(waiting.pop(name), done, now - begun[name], log)
            if waiting and now - last_seen > SECONDS_WITHOUT_WORKERS:
                for name, cell in waiting.items():
                    yield Ended(cell, False, 0.0, runs[name][1] if name in runs else self._worker_log())
                return

    def reset(self) -> None:
        """Stop the workers with all that they run, and empty the queue."""
        living = self._processes()
        for process in living:
            _try(process.suspend)  # or it would start the next stage while this one is ended
        whole = {p.pid: p for process in living for p in (process, *_try(process.children, recursive=True))}
        for process in whole.values():
            _try(process.kill)
        psutil.wait_procs(whole.values(), timeout=SECONDS_TO_STOP)
        shutil.rmtree(self.clone.root / TMP, ignore_errors=True)
        for ref in git(self.clone.root, "for-each-ref", "--format=%(refname)", "refs/exps/celery").splitlines():
            git(self.clone.root, "update-ref", "-d", ref)
        (self.clone.root / ".dvc/tmp/rwlock").unlink(missing_ok=True)

    def _runs(self) -> Iterator[tuple[dict[str, Any], Path]]:
        """What DVC knows of each experiment that was started, and the log of it."""
        for file in (self.clone.root / TMP / "run").glob("*/*.run"):
            try:
                yield json.loads(file.read_text()), file.with_suffix(".out")
            except (OSError, ValueError):  # being written
                continue

    def _processes(self) -> list[psutil.Process]:
        """Workers, and what they run, that are alive."""
        found = []
        for file in (*(self.clone.root / TMP / "celery").glob("*.pid"), *(self.clone.root / TMP).glob("run/*/*.pid")):
            try:
                process = psutil.Process(int(file.read_text()))
                if Path(process.cwd()).is_relative_to(self.clone.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, ValueError, psutil.Error):
                continue
        return found

    def _worker_log(self) -> Path | None:
        logs = sorted((self.clone.root / TMP / "celery").glob("*.out"))
        return logs[0] if logs else None

    def _dvc(self, *arguments: str) -> None:
        """Run DVC. Its output goes to a file: the workers that it starts would hold a pipe open until they end."""
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


def _try(act: Callable[..., Any], **options: Any) -> Any:
    """What a psutil method returns, or () if the process has ended meanwhile."""
    try:
        return act(**options) or ()
    except psutil.Error:
        return ()
