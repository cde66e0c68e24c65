"""Running a study: cells that are not done go through DVC's queue, and each that ends is logged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.shared_cache import link_folders
from cspipe.runtime.wording import readable_seconds
from cspipe.study.clone import FOLDER, Clone, check_images, experiments, forget, open_clone
from cspipe.study.collect import cell_result, collect
from cspipe.study.definition import Cell, Defined
from cspipe.study.queue import Ended, Queue, printed
from cspipe.study.results import Results

LAST_LINES = 5
"""Number of lines of a failed cell's log that are shown."""
Log = Callable[[str], None]


def run_study(defined: Defined, home: Path, jobs: int, log: Log, *, folder: Path | None = None) -> Results:
    """Run the cells of a study that are not done and return all its results; a failed cell does not stop the others.

    With `folder` all cells run anew there: only tracked images come from the repository's DVC cache, and no experiment
    is given to the repository. Raises UserError before anything runs. On KeyboardInterrupt the workers are stopped,
    finished cells stay.
    """
    with _alone(folder or home / FOLDER / defined.name, defined.name):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            link_folders(home, folder)
        clone = open_clone(home, defined.name, folder=folder)
        done = _done(clone, defined)
        todo = [cell for cell in defined.cells if cell.name not in done]
        check_images(clone, todo)
        log(f"{len(defined.cells)} cells, {len(done)} done, {len(todo)} to run")
        failed: dict[str, str] = {}
        try:
            if todo:
                failed = _run(clone, todo, jobs, defined.study.scores[0], log)
        finally:
            done = _done(clone, defined)
            if folder is None:
                clone.hand_over(done)
        return collect(clone, defined, done, failed, jobs, _clock(clone.folder))


def _done(clone: Clone, defined: Defined) -> dict[str, str]:
    """Return the experiments of the cells that are done, by name."""
    known = experiments(clone.root)
    return {cell.name: known[cell.name] for cell in defined.cells if clone.done(cell, known.get(cell.name))}


def _run(clone: Clone, cells: list[Cell], jobs: int, score: str, log: Log) -> dict[str, str]:
    """Run cells and log the `score` of each; return the last line of each failed cell's log, by name."""
    queue = Queue(clone)
    failed: dict[str, str] = {}
    begun = time.monotonic()
    try:
        queue.stop()
        if clone.shared != clone.home:
            queue.fetch()
        for cell in cells:
            forget(clone.root, cell.name)
            queue.put(cell)
        log(f"queued in {readable_seconds(time.monotonic() - begun)}; {jobs} at a time")
        started = time.monotonic()
        queue.start(jobs)
        for count, ended in enumerate(queue.watch(cells, jobs, lambda name, line: log(f"    {name}: {line}")), 1):
            if ended.done:
                line = _summary(ended, clone, score)
            else:
                failed[ended.cell.name] = _keep_log(ended, clone.folder, log)
                line = f"{ended.cell.name}: failed"
            left = (time.monotonic() - started) / count * (len(cells) - count)
            log(f"{count}/{len(cells)}  {line}; {readable_seconds(left)} left")
    finally:
        queue.stop()
        _clock(clone.folder, time.monotonic() - begun)
    return failed


def _summary(ended: Ended, clone: Clone, score: str) -> str:
    """Describe a finished cell in a line: row, point, seed, score of each variant, seconds."""
    cell = ended.cell
    variants = cell_result(clone, cell, experiments(clone.root)[cell.name], None).variants
    scores = ", ".join(f"{name} {score} {each.scores.get(score, float('nan')):.4g}" for name, each in variants.items())
    point = "" if cell.point is None else f"  {cell.point}"
    return f"{cell.row}{point}  seed {cell.seed}  {scores}  ({readable_seconds(ended.seconds)})"


def _keep_log(ended: Ended, folder: Path, log: Log) -> str:
    """Keep the log of a failed cell, log its end, and return its last line, of those of cspipe if there are any."""
    kept = folder / f"{ended.cell.name}.log"
    if ended.log is None or not ended.log.is_file():
        return "DVC's workers ended before it was run"
    shutil.copyfile(ended.log, kept)
    lines = printed(kept)
    for line in lines[-LAST_LINES:]:
        log(f"    {line}")
    log(f"    {kept} has all")
    ours = [line for line in lines if line.startswith("cspipe ")]
    return (ours or lines or ["no message"])[-1]


def _clock(folder: Path, seconds: float = 0.0) -> float:
    """Add to the wall-clock time that a study has taken, and return the total, in seconds."""
    file = folder / "wall_seconds"
    total = round((float(file.read_text()) if file.exists() else 0.0) + seconds, 1)
    if seconds:
        with whole_file(file) as beside:
            beside.write_text(f"{total}\n")
    return total


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock beside a study's folder. Raises UserError if another command runs the study."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False).acquire()
    except Timeout:
        raise UserError(f"study {name} is running already in {folder}; wait for it, or stop it") from None
    with lock:
        yield
