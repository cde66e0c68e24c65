"""Check the parameters of a run before it is created, as far as this clone can; the worker checks the rest."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect.settings import PREFECT_API_URL

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from flows.local.record import read
from flows.revision import FULL_ID, find_commit
from flows.settings import PRESETS, write_params
from flows.workspace import home


def typed_parameters(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's parameters from the arguments of `prefect deployment run`.

    Empty for arguments that Prefect itself refuses, and for parameters from stdin, which can be read only once.
    """
    from prefect.cli._utilities import load_json_key_values

    try:
        several = json.loads(arguments.get("multiparams") or "{}")
        return {**several, **load_json_key_values(arguments.get("params") or [], "parameter")}
    except (ValueError, TypeError):
        return {}


def check(flow: str, parameters: Mapping[str, Any]) -> None:
    """Raise UserError for a preset, an override or a point of a grid that the run would fail with.

    Checks nothing if this clone lacks the revision, or has other code, which may accept other parameters.
    """
    preset, overrides = parameters.get("preset", "demo"), parameters.get("overrides") or {}
    revision = parameters.get("revision")
    found = presets(revision) if revision is None or isinstance(revision, str) else None
    if found is None or not isinstance(preset, str) or not isinstance(overrides, Mapping):
        return  # Prefect checks the types
    points: list[dict[str, Any]] = [{}]
    if flow == "sweep" and "grid" in parameters:
        from flows import sweep  # imported here, as that takes most of a second

        points = sweep.points(parameters["grid"])
    with TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(found)) as archive:
        archive.extractall(folder, filter="data")
        for point in points:
            write_params(Path(folder), preset, {**overrides, **point})


def presets(revision: str | None) -> bytes | None:
    """Return the presets of a revision (None: HEAD) as a tar file; None if this clone does not have them for sure.

    A tag or a commit is the same everywhere. HEAD and branches are those of the workers' clone, which is this clone
    only if the server is that of its own `cspipe up`. None too if the code in cspipe/ is not the revision's.
    """
    try:
        clone = home()
        stack = read(clone)
        if stack is None or stack.api != PREFECT_API_URL.value():
            if revision is None:
                return None
            revision = revision if FULL_ID.fullmatch(revision) else f"refs/tags/{revision}"
        commit = find_commit(clone, revision)
        if commit is None:
            return None
        git(clone, "diff", "--quiet", commit, "--", "cspipe")
        archive = ["git", "archive", commit, PRESETS.as_posix()]
        return subprocess.run(archive, cwd=clone, capture_output=True, check=True).stdout
    except (UserError, subprocess.CalledProcessError):
        return None
