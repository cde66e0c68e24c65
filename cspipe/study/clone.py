"""The clone that a study's cells run in: a person may edit the repository meanwhile.

Its DVC cache is the repository's (but for `--verify`), so results of one are restored in the other.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cspipe.runtime.errors import UserError
from cspipe.study.definition import STUDIES, Cell

FOLDER = Path(".cspipe/study")
EXPERIMENTS = "refs/exps"
DECISIVE = ("cspipe", "dvc.yaml")
"""What decides a cell's results besides its parameters."""


@dataclass(frozen=True)
class Clone:
    """A clone at a commit, for one study."""

    home: Path
    """The repository."""
    folder: Path
    """What the study keeps: the clone, logs."""
    commit: str
    code: tuple[str, ...]
    """Paths that dvc.yaml lists as code of stages, and itself."""

    @property
    def root(self) -> Path:
        """The clone's working tree."""
        return self.folder / "clone"

    def experiments(self) -> dict[str, str]:
        """References of the experiments that the clone has, by name; of several with one name the newest."""
        form = "--format=%(refname)"
        names = git(self.root, "for-each-ref", form, "--sort=committerdate", EXPERIMENTS).splitlines()
        return {ref.split("/")[-1]: ref for ref in names if len(ref.split("/")) == 5}

    def done(self, cell: Cell, experiments: dict[str, str]) -> str | None:
        """The reference of a cell's experiment if it is finished, with this code and these parameters; else None."""
        ref = experiments.get(cell.name)
        if ref is None or not succeeds(self.root, "diff", "--quiet", ref, self.commit, "--", *self.code):
            return None
        if yaml.safe_load(git(self.root, "show", f"{ref}:params.yaml")) != cell.tree:
            return None
        files = git(self.root, "ls-tree", "--name-only", ref, "metrics/").splitlines()
        return ref if all(f"metrics/{variant}.json" in files for variant in cell.variants) else None

    def forget(self, cell: Cell) -> None:
        """Remove what the clone has of a cell that must run again: DVC refuses two experiments of one name."""
        _remove(self.root, [cell.name])

    def hand_over(self, cells: dict[str, str]) -> None:
        """Give the repository experiments (references by name), in place of older ones of these names."""
        have = dict(_references(self.home))
        new = {ref for ref in cells.values() if have.get(ref) != git(self.root, "rev-parse", ref)}
        if not new:
            return
        _remove(self.home, [name for name, ref in cells.items() if ref in new])
        git(self.home, "fetch", "--quiet", "--no-tags", str(self.root), *(f"+{ref}:{ref}" for ref in sorted(new)))


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
    clone = Clone(home, (folder or home / FOLDER / name).resolve(), commit, code_of(home))
    if not (clone.root / ".git").is_dir():
        git(home, "clone", "--quiet", "--no-checkout", str(home), str(clone.root))
    git(clone.root, "fetch", "--quiet", "--no-tags", str(home), "HEAD")
    git(clone.root, "checkout", "--quiet", "--force", "--detach", commit)
    if folder is None:
        _share(clone, name)
    return clone


def _share(clone: Clone, name: str) -> None:
    """Use the repository's DVC cache, and the experiments that it has of the study."""
    from dvc.config import Config

    cache = Config(str(clone.home / ".dvc"))["cache"].get("dir") or clone.home / ".dvc" / "cache"
    lines = ("[cache]", f"    dir = {cache}", "    type = reflink,hardlink,symlink,copy")
    (clone.root / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")
    ours = [ref for ref, _ in _references(clone.home) if ref.split("/")[-1].startswith(f"{name}-")]
    if ours:
        git(clone.root, "fetch", "--quiet", "--no-tags", str(clone.home), *(f"+{ref}:{ref}" for ref in ours))


def _references(root: Path) -> list[tuple[str, str]]:
    """Experiments of a repository, as (reference, commit)."""
    lines = git(root, "for-each-ref", "--format=%(refname) %(objectname)", EXPERIMENTS).splitlines()
    pairs = [line.split() for line in lines]
    return [(ref, commit) for ref, commit in pairs if len(ref.split("/")) == 5]


def _remove(root: Path, names: list[str]) -> None:
    for ref, _ in _references(root):
        if ref.split("/")[-1] in names:
            git(root, "update-ref", "-d", ref)


def code_of(home: Path) -> tuple[str, ...]:
    """dvc.yaml and the code that it lists for the stages."""
    stages: dict[str, Any] = yaml.safe_load((home / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    listed = {dep for stage in stages.values() for dep in stage.get("do", stage).get("deps", [])}
    return ("dvc.yaml", *sorted(dep for dep in listed if dep.startswith("cspipe")))


def git(root: Path, *arguments: str) -> str:
    """What a git command prints, stripped. Raises UserError with its last line."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"git {' '.join(arguments[:2])} in {root}: {reason}")
    return done.stdout.rstrip("\n")


def succeeds(root: Path, *arguments: str) -> bool:
    """Whether a git command ends with exit status 0."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True).returncode == 0
