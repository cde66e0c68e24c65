"""Which commits have the code that made a file, told from git's object ids of that code."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Commits:
    """Commits of this clone with the code that made a file; where none has all of it, the nearest."""

    newest: str
    """Full id: the newest that has the code, or of those nearest to it."""
    count: int
    """How many have all of it."""
    differing: tuple[str, ...]
    """Paths that are others in `newest`; empty if it has all."""

    def text(self) -> str:
        """In a few words."""
        if not self.differing:
            others = f", the newest of {self.count} with this code" if self.count > 1 else ""
            return f"commit {self.newest[:12]}{others}"
        names = ", ".join(self.differing[:4]) + (f" and {len(self.differing) - 4} more" if self.differing[4:] else "")
        return f"no commit here has it; nearest is {self.newest[:12]}, other in {names}"


class History:
    """The commits of a clone, on any branch, and the content of paths in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._commits: list[str] | None = None
        self._ids: dict[str, list[str]] = {}
        """By path: its object id in each commit, "" where it has none."""

    def find(self, code: Mapping[str, str]) -> Commits | None:
        """Commits that have these ids (12 digits) at these paths; None without a clone or without code."""
        commits = self._all_commits()
        if not commits or not code:
            return None
        self._look_up(path for path in code if path not in self._ids)
        columns = [[found.startswith(wanted) for found in self._ids[path]] for path, wanted in code.items()]
        matches = [sum(row) for row in zip(*columns, strict=True)]
        best = matches.index(max(matches))  # newest first
        differing = tuple(path for path, column in zip(code, columns, strict=True) if not column[best])
        return Commits(commits[best], matches.count(len(code)), differing)

    def _all_commits(self) -> list[str]:
        if self._commits is None:
            try:
                self._commits = self._git(["rev-list", "HEAD", "--branches", "--tags", "--remotes"]).split()
            except (OSError, subprocess.CalledProcessError):
                self._commits = []
        return self._commits

    def _look_up(self, paths: Iterable[str]) -> None:
        """Ask git once for the ids of some paths in every commit."""
        names, commits = list(paths), self._all_commits()
        asked = "".join(f"{commit}:{name}\n" for name in names for commit in commits)
        lines = self._git(["cat-file", "--batch-check=%(objectname)"], asked).splitlines() if names else []
        found = ["" if line.endswith(" missing") else line for line in lines]
        for number, name in enumerate(names):
            self._ids[name] = found[number * len(commits) : (number + 1) * len(commits)]

    def _git(self, arguments: list[str], given: str = "") -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.root, input=given, capture_output=True, text=True, check=True).stdout
