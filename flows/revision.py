"""The commit of a run: found once and kept for later attempts; and whether this clone's code is that commit's."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from flows.pins import read_pins

PYPROJECT = "pyproject.toml"
FULL_ID = re.compile("[0-9a-f]{40}")
LABEL = "cspipe.commit"
"""Label of a flow run that holds the commit which its first attempt found."""
RESULTS = ("dvc.lock", "curves", "metrics")
"""Paths in git that `dvc repro` writes; changes there are not edits, as last digits depend on the processor."""


def first_commit() -> str | None:
    """Return the commit that the first attempt of this flow run stored in its label; None if none has."""
    context = FlowRunContext.get()
    kept = None if context is None or context.flow_run is None else context.flow_run.labels.get(LABEL)
    return None if kept is None else str(kept)


def run_commit(clone: Path, revision: str | None, *, pushed: bool) -> str:
    """Return the commit of this flow run: that of `revision` at its first attempt, whatever was committed since.

    Raises UserError as resolve_revision does.
    """
    kept = first_commit()
    commit = resolve_revision(clone, kept or revision, pushed=pushed)
    context = FlowRunContext.get()
    if kept is None and context is not None and context.flow_run is not None:
        context.flow_run.labels[LABEL] = commit
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, {LABEL: commit})
    return commit


def resolve_revision(clone: Path, revision: str | None, *, pushed: bool) -> str:
    """Return the commit id of `revision`, or of HEAD for None. With `pushed`, the clone's origin must have it too.

    Raises UserError for an unknown revision, for one that other machines cannot fetch and, if it is None, for
    uncommitted changes outside of RESULTS.
    """
    if revision is None:
        others = [f":!{name}" for name in RESULTS]
        changed = git(clone, "diff", "--name-only", "HEAD", "--", ".", *others).splitlines()
        if changed:
            few = ", ".join(changed[:3])
            raise UserError(f"{clone}: {len(changed)} uncommitted changes ({few}); commit them, or name a revision")
    elif not FULL_ID.fullmatch(revision) or find_commit(clone, revision) is None:
        _fetch(clone)
    commit = find_commit(clone, revision)
    if commit is None:
        raise UserError(f"no revision {revision!r} in {clone} or its origin; push it first, or correct it")
    if pushed and not git(clone, "branch", "--remotes", "--contains", commit):
        _fetch(clone)
        tags = git(clone, "ls-remote", "--tags", "origin")
        if not git(clone, "branch", "--remotes", "--contains", commit) and commit not in tags:
            raise UserError(f"revision {commit[:12]} is not pushed, so no other machine can run it; `git push` first")
    return commit


def find_commit(clone: Path, revision: str | None) -> str | None:
    """Return the commit id of a revision (None: HEAD) in the clone, None if the clone has no such revision.

    Origin's branch goes before the clone's own, which may not have moved since the clone was made.
    """
    for name in ["HEAD"] if revision is None else [f"refs/remotes/origin/{revision}", revision]:
        with suppress(UserError):
            return git(clone, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return None


def _fetch(clone: Path) -> None:
    if git(clone, "remote"):
        git(clone, "fetch", "--quiet", "--tags", "--force", "origin")  # --force: a tag may have moved in origin


def check_code(clone: Path, commit: str) -> None:
    """Raise UserError unless the flows and the pinned environment of this clone are those of the revision."""
    differing = ["flows"] if git(clone, "diff", "--name-only", commit, "--", "flows") else []
    if read_pins((clone / PYPROJECT).read_text()) != read_pins(git(clone, "show", f"{commit}:{PYPROJECT}")):
        differing.append(f"the pins of {PYPROJECT}")
    if differing:
        raise UserError(
            f"{clone}: {' and '.join(differing)} here are not those of revision {commit[:12]}; "
            f"check it out in this clone (`git checkout {commit[:12]}`), run `uv sync` and start its worker again"
        )
