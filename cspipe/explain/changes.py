"""What differs between dvc.lock and now: values of parameters, and the files of a code folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.fs import GitFileSystem
from dvc.output import Output
from dvc.repo import Repo
from dvc.scm import NoSCM
from dvc_data.hashfile.build import build
from dvc_data.hashfile.tree import Tree
from scmrepo.exceptions import SCMError

LOCKS_LOOKED_AT = 30
"""Commits of dvc.lock, newest first, in which the earlier content of a folder is sought."""
NAMES_SHOWN = 6


def parameter_changes(params: ParamsDependency) -> list[str]:
    """A line per value that is another than in dvc.lock, such as "params.yaml: train.batch 16 -> 32"."""
    old, new = params.hash_info.value or {}, params.read_params()
    lines = []
    for key in params.params:
        if key not in new:
            lines.append(f"{params.def_path}: {key} is missing")
        elif key not in old:
            lines.append(f"{params.def_path}: {key} is new to the stage")
        else:
            lines += [f"{params.def_path}: {line}" for line in _differences(key, old[key], new[key])]
    return lines


def _differences(key: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for part in (*old, *(part for part in new if part not in old)):
            name = f"{key}.{part}"
            if part not in new:
                yield f"{name} {_value(old[part])} is gone"
            elif part not in old:
                yield f"{name} {_value(new[part])} is new"
            else:
                yield from _differences(name, old[part], new[part])
    elif old != new:
        yield f"{key} {_value(old)} -> {_value(new)}"


def _value(value: Any) -> str:
    """A value as JSON has it, cut to fit a line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dependency_change(repo: Repo, dep: Output) -> str:
    """One line about a file or folder whose content is another than in dvc.lock."""
    if not dep.hash_info:
        return f"{dep.def_path}: new to the stage"
    names = changed_files(repo, dep) if dep.hash_info.isdir else []
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{dep.def_path}: changed{' (' if names else ''}{', '.join(names[:NAMES_SHOWN])}{more}{')' if names else ''}"


def changed_files(repo: Repo, folder: Output) -> list[str]:
    """Files of a folder that differ from what dvc.lock recorded, if git has that content beside some dvc.lock, else [].

    dvc.lock holds one hash of a folder; which file changed is told by the commit in which the folder had that hash.
    """
    now = content(folder)
    if now is None or isinstance(repo.scm, NoSCM):
        return []
    for commit in _commits_of_lock(repo):
        then = _content_at(repo, folder, commit)
        if then is not None and then.hash_info == folder.hash_info:
            old, new = ({key: value for key, _, value in tree} for tree in (then, now))
            names = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
            return sorted("/".join(key) for key in names)
    return []


def content(folder: Output) -> Tree | None:
    """The files of a folder in the workspace with their hashes, or None if it is none."""
    if not folder.fs.isdir(folder.fs_path):
        return None
    _, _, tree = build(
        folder.local_cache, folder.fs_path, folder.fs, folder.hash_name, ignore=folder.dvcignore, dry_run=True
    )
    return tree if isinstance(tree, Tree) else None


def _commits_of_lock(repo: Repo) -> list[str]:
    try:
        found = repo.scm.gitpython.repo.iter_commits(paths="dvc.lock", max_count=LOCKS_LOOKED_AT)
        return [commit.hexsha for commit in found]
    except (SCMError, ValueError):  # no commit yet
        return []


def _content_at(repo: Repo, folder: Output, commit: str) -> Tree | None:
    fs = GitFileSystem(scm=repo.scm, rev=commit)
    path = fs.join("/", *repo.fs.relparts(folder.fs_path, repo.scm.root_dir))
    if not fs.isdir(path):
        return None
    _, _, tree = build(folder.local_cache, path, fs, folder.hash_name, dry_run=True)
    return tree if isinstance(tree, Tree) else None
