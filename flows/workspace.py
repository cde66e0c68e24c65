"""Workspaces: each run works in a git worktree of its own at an exact revision, with the clone's DVC cache.

The clone can be edited during a run of days; the edits do not reach the run.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.storage import DVC_REMOTE, Bucket
from cspipe.runtime.storage_errors import StorageError, Unreachable
from cspipe.runtime.worktree import add_worktree, remove_worktree
from flows.credentials import take_from_block
from flows.failures import AWAY_SECONDS, pause

RUNS = Path(".cspipe/runs")
NAME = re.compile(r"[a-zA-Z0-9][\w.@-]*", re.ASCII)
"""Form of the name of a run or its stage: it becomes part of a folder, of keys in the bucket, of an experiment."""
SECONDS_BETWEEN_CHECKS = 10.0
SHARED_FOLDERS = (".cspipe/states", ".cspipe/features", ".cspipe/lineage", ".cspipe/wandb")
"""Folders of the clone that its workspaces link to, so that their files outlive a workspace."""


@dataclass(frozen=True)
class Workspace:
    """A git worktree of `revision`, in which stages run."""

    root: Path
    revision: str
    """Full commit id."""
    bucket: Bucket | None
    """Bucket that the machines share; None if this machine works alone."""


def home() -> Path:
    """Return the clone that flows work from: $CSPIPE_HOME, else the current folder. Raises UserError if it is none."""
    start = Path(os.environ.get("CSPIPE_HOME", "."))
    try:
        return Path(git(start, "rev-parse", "--show-toplevel"))
    except (OSError, UserError):
        raise UserError(f"{start.resolve()}: no git clone; set CSPIPE_HOME to a clone of the project") from None


def shared_bucket(
    tell: Callable[[str], None], patience: float = AWAY_SECONDS, unwanted: Callable[[], bool] = lambda: False
) -> Bucket | None:
    """Return the bucket of $CSPIPE_S3 after a check, None if that is not set. Raises UserError if it cannot be used.

    A bucket that does not answer is waited for, `patience` seconds at most. StageFailed if `unwanted` is true by then.
    """
    url = os.environ.get("CSPIPE_S3")
    if not url:
        return None
    take_from_block()
    bucket, start, warned = Bucket.from_url(url), time.monotonic(), False
    while True:
        try:
            bucket.check()
            return bucket
        except Unreachable as error:
            if time.monotonic() - start >= patience:
                raise StorageError(f"{error}; waited for {patience / 60:.0f} min") from None
            if not warned:
                tell(f"{error}; waiting for it, for {patience / 60:.0f} min at most")
            warned = True
            pause(SECONDS_BETWEEN_CHECKS, unwanted)


@contextmanager
def open_workspace(clone: Path, commit: str, name: str, bucket: Bucket | None) -> Iterator[Workspace]:
    """Open a worktree of the commit under the clone's .cspipe/runs, with the clone's DVC cache; remove it afterwards.

    Training states are kept in the clone, so that a later run of the same stage finds them. The folder's name ends in
    this process's id: an earlier attempt that is still ending removes its own; folders of killed ones are removed here.
    Raises UserError if `name` does not have the form NAME.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"run {name!r}: a name has letters, digits and . _ @ - alone; correct what it is made of")
    root = clone / RUNS / f"{name}.{os.getpid()}"
    for left in (clone / RUNS).glob("*.*"):
        process = re.fullmatch(r"\.([0-9]{1,9})", left.suffix)  # other folders there are left alone
        if left == root or (process and not psutil.pid_exists(int(process[1]))):
            remove_worktree(clone, left)
    try:
        add_worktree(clone, root, commit, *SHARED_FOLDERS)
        _configure(root, bucket)
        yield Workspace(root.resolve(), commit, bucket)
    finally:
        remove_worktree(clone, root)


def _configure(root: Path, bucket: Bucket | None) -> None:
    """Let DVC leave git's index alone, and make the bucket its remote, without credentials."""
    from dvc.config import Config

    with Config(str(root / ".dvc")).edit("local") as local:
        local["core"]["autostage"] = False
        if bucket is not None:
            local["core"]["remote"] = DVC_REMOTE
            # without `verify`, DVC would use objects that were altered there
            local["remote"][DVC_REMOTE] = {"url": f"{bucket.url}/dvc", "verify": True}
