"""The clone that a study's cells run in: a person may edit the repository meanwhile.

Its DVC cache is the repository's, so results of one are restored in the other. For `--verify` it has one of its own,
which takes from the repository's only images that DVC tracks.
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
"""What decides a cell's results besides its parameters."""
FETCH = ("fetch", "--quiet", "--no-tags")


@dataclass(frozen=True)
class Clone:
    """A clone at a commit, for one study."""

    home: Path
    """The repository."""
    folder: Path
    """What the study keeps: the clone, logs."""
    shared: Path
    """Whose lineage records and features the stages use: the repository's, or of `--verify` the folder's."""
    commit: str
    code: tuple[str, ...]
    """Paths that dvc.yaml lists as code of stages, as they stand there, and itself."""

    @property
    def root(self) -> Path:
        """The clone's working tree."""
        return self.folder / "clone"

    def done(self, cell: Cell, experiment: str | None) -> bool:
        """Whether a cell's experiment (its reference, if it has one) is finished, with this code and parameters."""
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
        """Give the repository experiments (references by name), in place of older ones of these names."""
        if cells:
            git(self.home, *FETCH, str(self.root), *(f"+{ref}:{ref}" for ref in cells.values()))
        for name, ref in cells.items():
            forget(self.home, name, but=ref)


def experiments(root: Path) -> dict[str, str]:
    """References of a repository's experiments by name; of several with one name the newest."""
    refs = git(root, "for-each-ref", "--format=%(refname)", "--sort=committerdate", "refs/exps/*/*/*").splitlines()
    return {ref.split("/")[-1]: ref for ref in refs}


def forget(root: Path, name: str, *, but: str | None = None) -> None:
    """Remove a repository's experiments of a name: DVC refuses to run a second one."""
    for ref in git(root, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").splitlines():
        if ref != but:
            git(root, "update-ref", "-d", ref)


def open_clone(home: Path, name: str, *, folder: Path | None = None) -> Clone:
    """The clone of a study at HEAD, made or brought there, with the experiments that the repository has of it.

    `folder` is one of its own, whose DVC cache is its own too. Raises UserError if HEAD does not tell what would run.
    """
    changed = git(home, "status", "--porcelain", "--no-renames", "--", *DECISIVE, str(STUDIES / name)).splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:3])
        raise UserError(
            f"{len(changed)} files that decide the results differ from HEAD ({names}); commit first, results carry "
            "the commit"
        )
    commit = git(home, "rev-parse", "HEAD")
    # A workspace may link the folder elsewhere; processes are known by where they really are.
    clone = Clone(home, (folder or home / FOLDER / name).resolve(), folder or home, commit, code_of(home))
    if not _is_clone(clone.root):
        with whole_folder(clone.root) as beside:
            git(home, "clone", "--quiet", "--no-checkout", str(home), str(beside))
    (clone.root / ".git/index.lock").unlink(missing_ok=True)  # of a git that was killed: no other is at work here
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
    """Whether a folder is a working tree that git accepts; else git would take the repository that it lies in."""
    try:
        return root.is_dir() and Path(git(root, "rev-parse", "--show-toplevel")).resolve() == root
    except UserError:
        return False


def _share(clone: Clone, name: str) -> None:
    """Use the repository's DVC cache, and the experiments that it has of the study."""
    share_dvc_cache(clone.home, clone.root)
    known = [ref for cell, ref in experiments(clone.home).items() if cell.startswith(f"{name}-")]
    if known:
        git(clone.root, *FETCH, str(clone.home), *(f"+{ref}:{ref}" for ref in known))


def code_of(home: Path) -> tuple[str, ...]:
    """dvc.yaml and the code that it lists for the stages, ${...} as it is there."""
    return (PIPELINE, *sorted(set(chain(*stages_code(home / PIPELINE).values()))))
