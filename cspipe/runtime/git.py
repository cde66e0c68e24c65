"""Running git, for commands, flows and studies."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cspipe.runtime.errors import UserError


def git(root: Path, *arguments: str, asked: str = "") -> str:
    """Return what a git command prints, without line ends after it; `asked` is its standard input.

    Raises UserError with git's reason if it fails.
    """
    done = subprocess.run(["git", *arguments], cwd=root, input=asked, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr.strip() or "no message").splitlines()
        reason = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
        raise UserError(f"git {' '.join(arguments[:2])} in {root}: {reason}")
    return done.stdout.rstrip("\n")


def output_of(root: Path, *arguments: str, asked: str = "") -> str:
    """Return what a git command prints, whatever its exit status; `asked` is its standard input."""
    return subprocess.run(["git", *arguments], cwd=root, input=asked, capture_output=True, text=True).stdout


def succeeds(root: Path, *arguments: str) -> bool:
    """Whether a git command ends with exit status 0."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True).returncode == 0
