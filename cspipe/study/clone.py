"""The clone in which a study's cells run, so that a person may edit the repository meanwhile.

The clone uses the repository's DVC cache, so results of one are restored in the other. For `--verify` it has a cache of
its own, which takes only images that DVC tracks from the repository's cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import yaml

from cspipe.config.checks import has_data
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_folder
from cspipe.runtime.git import git, succeeds
from cspipe.runtime.provenance import PIPELINE, fill_in, stages_code
from cspipe.runtime.shared_cache import share_dvc_cache
from cspipe.study.definition import STUDIES, Cell

FOLDER = Path(".cspipe/study")
DECISIVE = ("cspipe", PIPELINE)
"""Paths of the code that decides a cell's results, besides its parameters."""
FETCH = ("fetch", "--quiet", "--no-tags")


@dataclass(frozen=True)
class Clone:
    """A clone at a commit, for one study."""

    home: Path
    """Root of the repository."""
    folder: Path
    """Folder of what the study keeps: the clone, logs."""
    shared: Path
    """Root of the lineage records and features that the stages use: the repository, or `folder` for `--verify`."""
    commit: str
    code: tuple[str, ...]
    """Paths that dvc.yaml lists as code of stages, with ${...} not filled in, and dvc.yaml itself."""

    @property
    def root(self) -> Path:
        """The clone's working tree."""
        return self.folder / "clone"

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

    def hand_over(self, cells: dict[str, str]) -> None:
        """Copy experiments (git references by name) to the repository, in place of older ones with these names."""
        if cells:
            git(self.home, *FETCH, str(self.root), *(f"+{ref}:{ref}" for ref in cells.values()))
        for name, ref in cells.items():
            forget(self.home, name, but=ref)


def experiments(root: Path) -> dict[str, str]:
    """Return the git references of a repository's experiments by name; of several with one name the newest."""
    refs = git(root, "for-each-ref", "--format=%(refname)", "--sort=committerdate", "refs/exps/*/*/*").splitlines()
    return {ref.split("/")[-1]: ref for ref in refs}


def forget(root: Path, name: str, *, but: str | None = None) -> None:
    """Remove a repository's experiments called `name`, except `but`: DVC refuses to run a second one of a name."""
    for ref in git(root, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").splitlines():
        if ref != but:
            git(root, "update-ref", "-d", ref)


def open_clone(home: Path, name: str, *, folder: Path | None = None) -> Clone:
    """Return the clone of a study, made or updated to HEAD, with the experiments that the repository has of the study.

    With `folder` it lies there, has a DVC cache of its own, and gets no experiments. Raises UserError if files that
    decide the results differ from HEAD.
    """
    changed = git(home, "status", "--porcelain", "--no-renames", "--", *DECISIVE, str(STUDIES / name)).splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:3])
        raise UserError(
            f"{len(changed)} files that decide the results differ from HEAD ({names}); commit first, results carry "
            "the commit"
        )
    commit = git(home, "rev-parse", "HEAD")
    # A workspace may link the folder elsewhere; processes are found by their real working directory.
    clone = Clone(home, (folder or home / FOLDER / name).resolve(), folder or home, commit, code_of(home))
    if not _is_clone(clone.root):
        with whole_folder(clone.root) as beside:
            git(home, "clone", "--quiet", "--no-checkout", str(home), str(beside))
    (clone.root / ".git/index.lock").unlink(missing_ok=True)  # left by a killed git: no other git works here
    git(clone.root, *FETCH, str(home), "HEAD")
    git(clone.root, "checkout", "--quiet", "--force", "--detach", commit)
    if folder is None:
        _share(clone, name)
    else:
        share_dvc_cache(home, clone.root, as_remote=True)
    return clone


def check_images(clone: Clone, cells: Iterable[Cell]) -> None:
    """Raise UserError if images that a cell reads are in the repository's folder, but in neither git nor DVC."""
    for data in (cell.params.data for cell in cells):
        path = data.path
        if path and (clone.home / path).exists() and not has_data(clone.root, data):
            raise UserError(
                f"data.path {path} is in neither git nor DVC; cells run in a clone that has only what these have: "
                f"`dvc add {path}` and commit {path}.dvc"
            )


def _is_clone(root: Path) -> bool:
    """Whether `root` is a working tree of its own; otherwise git would use the repository that contains it."""
    try:
        return root.is_dir() and Path(git(root, "rev-parse", "--show-toplevel")).resolve() == root
    except UserError:
        return False


def _share(clone: Clone, name: str) -> None:
    """Let the clone use the repository's DVC cache, and fetch the repository's experiments of the study."""
    share_dvc_cache(clone.home, clone.root)
    known = [ref for cell, ref in experiments(clone.home).items() if cell.startswith(f"{name}-")]
    if known:
        git(clone.root, *FETCH, str(clone.home), *(f"+{ref}:{ref}" for ref in known))


def code_of(home: Path) -> tuple[str, ...]:
    """Return dvc.yaml and the code that it lists for the stages, with ${...} not filled in."""
    return (PIPELINE, *sorted(set(chain(*stages_code(home / PIPELINE).values()))))
