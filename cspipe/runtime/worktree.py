"""Git worktrees of a clone, in which its pipeline runs at a commit with the clone's DVC cache and some of its files."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git

WEIGHTS = "data/weights"
"""Folder of downloads, which git ignores; parameters name files in it."""
CLONE = "clone"
"""Name of the DVC remote that is the cache of a clone."""
COMMIT = (
    *("-c", "user.name=cspipe", "-c", "user.email=cspipe@localhost", "-c", "commit.gpgsign=false"),
    *("-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--allow-empty"),
)
"""Arguments of git for a commit that no setting of a person's stops."""


def add_worktree(clone: Path, root: Path, commit: str, *folders: str) -> None:
    """Check out `commit` at `root`, with the clone's DVC cache, its downloaded weights, and its `folders`."""
    git(clone, "worktree", "prune")
    # no hook of the clone, such as DVC's checkout; twice forced, git takes a path that a killed `add` has left locked
    add = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--force", "--force")
    git(clone, *add, "--quiet", "--detach", str(root), commit)
    link_folders(clone, root, *folders)
    share_dvc_cache(clone, root)


def remove_worktree(clone: Path, root: Path) -> None:
    """Remove a worktree, or what is left of one."""
    with suppress(UserError):  # git does not know it any more
        git(clone, "worktree", "remove", "--force", "--force", str(root))
    shutil.rmtree(root, ignore_errors=True)


def save_as_experiment(root: Path, commit: str, name: str) -> None:
    """Make a DVC experiment `name` on `commit` of what is in the worktree `root`, in place of older ones of that name.

    `dvc exp save` works through references that all worktrees share: it would end a `dvc exp run` in the clone.
    Raises UserError if git refuses.
    """
    kept = [path for path in ("curves", "metrics", "dvc.lock") if (root / path).exists()]
    git(root, "add", "--update")
    git(root, "add", "--force", "--", *kept)
    git(root, *COMMIT, "--message", f"dvc: commit experiment {name}")
    saved = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    refs = git(root, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").splitlines()
    changes = [f"update {saved} {git(root, 'rev-parse', 'HEAD')}", *(f"delete {ref}" for ref in {*refs} - {saved})]
    git(root, "update-ref", "--stdin", asked="\n".join(changes) + "\n")  # all or nothing


def link_folders(clone: Path, root: Path, *folders: str) -> None:
    """Link folders of a clone, made there if need be, and its downloaded weights into `root` where they are not yet."""
    for name in (*folders, WEIGHTS):
        here, shared = root / name, clone.resolve() / name
        if name != WEIGHTS:
            shared.mkdir(parents=True, exist_ok=True)
        if shared.is_dir() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(shared)


def share_dvc_cache(clone: Path, root: Path, *, as_remote: bool = False) -> None:
    """Have DVC in a checkout of a clone, `root`, use the clone's cache: as its own, or as a remote named CLONE."""
    from dvc.config import Config  # its configuration alone: a Repo takes a third of a second

    cache = as_dvc_writes(Path(Config(str(clone / ".dvc"))["cache"].get("dir") or clone / ".dvc" / "cache"))
    with Config(str(root.resolve() / ".dvc")).edit("local") as local:
        if as_remote:
            local["remote"][CLONE] = {"url": cache}
        else:
            local["cache"] |= {"dir": cache, "type": "reflink,hardlink,symlink,copy"}


def as_dvc_writes(path: Path) -> str:
    """A path for DVC's configuration. DVC writes ASCII alone, and a relative path relative to the configuration."""
    return os.path.relpath(path.resolve())
