"""The repository at the commit that the cells of a study run at, and the DVC experiments that it has of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import yaml

from cspipe.config.checks import dvc_files, needed_files
from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git, succeeds
from cspipe.runtime.provenance import PIPELINE, fill_in, stages_code
from cspipe.study.definition import Cell
from cspipe.study.names import STUDIES

DECISIVE = ("cspipe", PIPELINE)
"""Paths of the code that decides a cell's results, besides its parameters."""


@dataclass(frozen=True)
class Repository:
    """A clone of the project at a commit."""

    root: Path
    commit: str
    code: tuple[str, ...]
    """Paths that dvc.yaml lists as code of stages, with ${...} not filled in, and dvc.yaml itself."""

    def done(self, cell: Cell, experiment: str | None) -> bool:
        """Whether a cell's experiment (a git reference; None: it has none) is done, with this code and parameters."""
        if experiment is None:
            return False
        code = {path for template in self.code for path in fill_in(template, cell.tree, cell.tree["variants"])}
        if not succeeds(self.root, "diff", "--quiet", experiment, self.commit, "--", *sorted(code)):
            return False
        if yaml.safe_load(git(self.root, "show", f"{experiment}:params.yaml")) != cell.tree:
            return False
        files = git(self.root, "ls-tree", "--name-only", experiment, "metrics/").splitlines()
        return all(f"metrics/{variant}.json" in files for variant in cell.variants)


def open_repository(root: Path, study: str) -> Repository:
    """Return the repository at HEAD. Raises UserError if files that decide a study's results differ from HEAD."""
    changed = git(root, "status", "--porcelain", "--no-renames", "--", *DECISIVE, str(STUDIES / study)).splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:3])
        raise UserError(
            f"{len(changed)} files that decide the results differ from HEAD ({names}); commit first, results carry "
            "the commit"
        )
    return Repository(root, git(root, "rev-parse", "HEAD"), code_of(root))


def code_of(root: Path) -> tuple[str, ...]:
    """Return dvc.yaml and the code that it lists for the stages, with ${...} not filled in."""
    return (PIPELINE, *sorted(set(chain(*stages_code(root / PIPELINE).values()))))


def experiments(root: Path) -> dict[str, str]:
    """Return the git references of a repository's experiments by name; of several with one name the newest."""
    refs = git(root, "for-each-ref", "--format=%(refname)", "--sort=committerdate", "refs/exps/*/*/*").splitlines()
    return {ref.split("/")[-1]: ref for ref in refs}


def tracked_images(root: Path) -> list[str]:
    """Return the .dvc files of images in data/raw, relative to the checkout `root`."""
    return git(root, "ls-files", "-z", "data/raw/*.dvc").split("\0")[:-1]


def check_images(repository: Repository, cells: Iterable[Cell]) -> None:
    """Raise UserError if images that a cell reads are in the repository's folder, but not committed to git or DVC."""
    for path in {needed_files(cell.params.data) for cell in cells}:
        if path is None or path.is_absolute() or not (repository.root / path).exists():
            continue
        listed = ("ls-tree", "-r", "--name-only", repository.commit, "--", *map(str, (path, *dvc_files(path))))
        if not git(repository.root, *listed):
            raise UserError(
                f"data.path {path} is in neither git nor DVC at HEAD; cells run in worktrees, which have only what is: "
                f"`dvc add {path}` and commit {path}.dvc"
            )
