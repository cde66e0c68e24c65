"""Running a study: its cells that are not done are run, and each that ends is logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.wording import readable_seconds
from cspipe.study.cells import Ended, printed, run_cells
from cspipe.study.collect import cell_result, collect
from cspipe.study.definition import Cell, Defined
from cspipe.study.repository import Repository, check_images, experiments, open_repository
from cspipe.study.results import Results

FOLDER = Path(".cspipe/study")
"""Folder of a repository with the logs and worktrees of its studies."""
LAST_LINES = 5
"""Number of lines of a failed cell's log that are shown."""
Log = Callable[[str], None]


def run_study(defined: Defined, root: Path, jobs: int, log: Log) -> Results:
    """Run the cells of a study that are not done and return all its results; a failed cell does not stop the others.

    Raises UserError before anything runs. On KeyboardInterrupt the running cells are killed, finished ones stay.
    """
    # A workspace of flows may link the folder elsewhere; processes are known by where it really is.
    folder = (root / FOLDER / defined.name).resolve()
    with alone(folder, defined.name):
        folder.mkdir(exist_ok=True)
        repository = open_repository(root, defined.name)
        done = _done(repository, defined)
        todo = [cell for cell in defined.cells if cell.name not in done]
        check_images(repository, todo)
        log(f"{len(defined.cells)} cells, {len(done)} done, {len(todo)} to run, {jobs} at a time")
        failed = _run(repository, folder, todo, jobs, defined.study.scores[0], log) if todo else {}
        return collect(repository, defined, _done(repository, defined), failed, jobs, _clock(folder))


def _done(repository: Repository, defined: Defined) -> dict[str, str]:
    """Return the experiments of the cells that are done, by name."""
    known = experiments(repository.root)
    return {cell.name: known[cell.name] for cell in defined.cells if repository.done(cell, known.get(cell.name))}


def _run(repository: Repository, folder: Path, cells: list[Cell], jobs: int, score: str, log: Log) -> dict[str, str]:
    """Run cells and log the `score` of each; return the last line of each failed cell's log, by name."""
    failed: dict[str, str] = {}
    begun = time.monotonic()
    ends = run_cells(repository, folder, cells, jobs, lambda name, line: log(f"    {name}: {line}"))
    try:
        with closing(ends):
            for count, ended in enumerate(ends, 1):
                if ended.done:
                    line = _summary(ended, repository, score)
                else:
                    failed[ended.cell.name] = _show_failure(ended, log)
                    line = f"{ended.cell.name}: failed"
                left = (time.monotonic() - begun) / count * (len(cells) - count)
                log(f"{count}/{len(cells)}  {line}; {readable_seconds(left)} left")
    finally:
        _clock(folder, time.monotonic() - begun)
    return failed


def _summary(ended: Ended, repository: Repository, score: str) -> str:
    """Describe a finished cell in a line: row, point, seed, score of each variant, seconds."""
    cell = ended.cell
    variants = cell_result(repository, cell, experiments(repository.root)[cell.name], None).variants
    scores = ", ".join(f"{name} {score} {each.scores.get(score, float('nan')):.4g}" for name, each in variants.items())
    point = "" if cell.point is None else f"  {cell.point}"
    return f"{cell.row}{point}  seed {cell.seed}  {scores}  ({readable_seconds(ended.seconds)})"


def _show_failure(ended: Ended, log: Log) -> str:
    """Show the end of a failed cell's log, and return its last line, of those of cspipe if there are any."""
    lines = printed(ended.log)
    for line in lines[-LAST_LINES:]:
        log(f"    {line}")
    log(f"    {ended.log} has all")
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
def alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock beside a study's folder. Raises UserError if another command runs the study."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder.with_name(f"{folder.name}.lock"), blocking=False).acquire()
    except Timeout:
        raise UserError(f"study {name} is running already in {folder}; wait for it, or stop it") from None
    with lock:
        yield
