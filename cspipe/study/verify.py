"""`cspipe study NAME --verify`: runs the study again from scratch, and compares it with docs/results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git, succeeds
from cspipe.runtime.worktree import CLONE, link_folders, share_dvc_cache
from cspipe.study.claims import in_words
from cspipe.study.definition import Cell, Defined
from cspipe.study.repository import code_of, open_repository, tracked_images
from cspipe.study.results import RESULTS, Results, read_results
from cspipe.study.run import FOLDER, Log, alone, run_study
from cspipe.study.statistics import interval


def verify(defined: Defined, root: Path, jobs: int, log: Log, count: int | None = None) -> list[str]:
    """Run a study in a clone and a DVC cache of their own; return the rows of docs/results that are not reproduced.

    Means must agree to the printed digits if processor, torch and code are those of docs/results/NAME.json; else within
    half the width of its interval, which finds gross errors only. With `count`, only that many cells run, spread over
    the study, and must agree to the digits with other code too. Raises UserError if there is no such file, or it is of
    another study.yaml.
    """
    file = RESULTS / f"{defined.name}.json"
    committed = read_results(root / file)
    if committed.study.model_copy(update={"discussion": defined.study.discussion}) != defined.study:
        raise UserError(f"{file}: of another study.yaml; run `cspipe study {defined.name}` and commit its results")
    whole = committed
    if count is not None:
        defined = replace(defined, cells=_spread(defined.cells, count))
        keys = {(cell.row, cell.point, cell.seed) for cell in defined.cells}
        cells = [cell for cell in committed.cells if (cell.row, cell.point, cell.seed) in keys]
        committed = committed.model_copy(update={"cells": cells})
    with own_clone(root, root / FOLDER / f"{defined.name}-verify", defined.name) as clone:
        found = run_study(defined, clone, jobs, log)
    machine, code = other_machine(committed, found), other_code(committed, found, root)
    exact, reasons = not machine and (count is not None or not code), machine + code
    how = "to the printed digits" if exact else "within intervals"
    log(f"compared {how}: {'; '.join(reasons)}" if reasons else f"compared {how}")
    rows = [f"{cell.experiment}, which failed: {cell.failed}" for cell in found.cells if cell.failed is not None]
    fewest = min(committed.setting.images, committed.setting.reference_images or committed.setting.images)
    one_image = 1.01 / fewest if machine else 0.0  # 1 %: rounding of the share
    rows += differing(committed, found, None if exact else whole, one_image)
    for row in rows:
        log(f"differs: {row}")
    log(f"{file} is {'not ' if rows else ''}reproduced{'' if exact else ' within intervals'}")
    return rows


@contextmanager
def own_clone(root: Path, clone: Path, study: str) -> Iterator[Path]:
    """A new clone at the repository's HEAD, with a DVC cache of its own that has the images that DVC tracks alone.

    Raises UserError if HEAD does not have what decides the results, or the images are not in the repository's cache.
    """
    with alone(clone, study):
        commit = open_repository(root, study).commit
        shutil.rmtree(clone, ignore_errors=True)
        git(root, "clone", "--quiet", "--no-checkout", str(root), str(clone))
        git(clone, "fetch", "--quiet", "--no-tags", str(root), "HEAD")
        git(clone, "checkout", "--quiet", "--detach", commit)
        link_folders(root, clone)
        share_dvc_cache(root, clone, as_remote=True)
        if images := tracked_images(clone):
            command = [sys.executable, "-m", "dvc", "fetch", "--remote", CLONE, *images]
            done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines()
                raise UserError(f"dvc fetch {images[0]} in {clone}: {lines[-1] if lines else 'no message'}")
        yield clone


def _spread(cells: tuple[Cell, ...], count: int) -> tuple[Cell, ...]:
    """Return `count` of the cells, as far apart as possible; all if there are fewer."""
    count = min(count, len(cells))
    return tuple(cells[(2 * number + 1) * len(cells) // (2 * count)] for number in range(count))


def other_machine(committed: Results, found: Results) -> list[str]:
    """Describe how processor and torch differ from those of the committed results."""
    there, here = committed.setting, found.setting
    return [
        f"{name} {getattr(here, name)} here, {getattr(there, name)} there"
        for name in ("processor", "torch")
        if getattr(here, name) != getattr(there, name)
    ]


def other_code(committed: Results, found: Results, root: Path) -> list[str]:
    """Describe the commits of committed cells whose code differs from the code here."""
    here = found.setting.commit
    code = [re.sub(r"\$\{[^}]*\}", "*", path) for path in code_of(root)]  # any file that parameters may choose
    return [
        f"code of {here[:12]} here, of {commit[:12]} there"
        for commit in sorted({cell.commit for cell in committed.cells})
        if not succeeds(root, "diff", "--quiet", commit, here, "--", *code)
    ]


def differing(committed: Results, found: Results, whole: Results | None, one_image: float) -> list[str]:
    """Return the rows of the table that are not reproduced: those with other printed digits.

    With `whole`, the committed results of all cells, a mean may differ by half the width of its interval in them, and
    precision and recall by `one_image` too: they may be 0 for every seed.
    """
    rows = []
    for point in committed.points:
        for line in committed.study.lines():
            for score in committed.study.scores:
                old, new = (interval(list(each.scores(line, point, score).values())) for each in (committed, found))
                same = in_words(old) == in_words(new)
                if whole is not None:
                    wide = interval(list(whole.scores(line, point, score).values()))
                    least = one_image if score in ("precision", "recall") else 0.0
                    same |= abs(new.mean - old.mean) <= max((wide.high - wide.low) / 2, least)
                if not same and (old.known or new.known):
                    where = line if point is None else f"{line}, {point}"
                    rows.append(f"{where}, {score}: {in_words(new)}, committed {in_words(old)}")
    return rows
