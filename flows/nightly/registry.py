"""The registered models: `artifacts:` of dvc.yaml that have a version tag of GTO's, such as main@v1.0.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gto.api
import yaml
from gto.constants import VersionSort

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git


@dataclass(frozen=True)
class Model:
    """The newest version of a registered model."""

    name: str
    version: str
    commit: str
    """The tagged commit: its code, parameters and dvc.lock are the version's."""
    path: str | None
    """Folder of the model; None if dvc.yaml at the commit has no artifact of this name."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def registered_models(clone: Path) -> dict[str, list[Model]]:
    """Fetch origin's tags, and return the newest version of each model that is not deregistered, grouped by commit.

    Artifacts of another type than model are left out. Raises UserError if the tags cannot be fetched, also when the
    origin has moved a tag that the clone has.
    """
    if git(clone, "remote"):
        git(clone, "fetch", "--quiet", "--tags", "origin")
    found: dict[str, list[Model]] = {}
    for name, state in sorted(gto.api.show(str(clone)).items()):
        if not state["active"] or state["version"] is None:
            continue
        newest = gto.api.show(str(clone), name, sort=VersionSort.SemVer)[0]
        commit = newest["commit_hexsha"]
        artifact = declared_models(clone, commit).get(name, {})
        if artifact.get("type", "model") == "model":
            found.setdefault(commit, []).append(Model(name, newest["version"], commit, artifact.get("path")))
    return found


def declared_models(clone: Path, commit: str) -> dict[str, Any]:
    """Return `artifacts:` of dvc.yaml at a commit; {} if there are none."""
    try:
        return dict((yaml.safe_load(git(clone, "show", f"{commit}:dvc.yaml")) or {}).get("artifacts") or {})
    except UserError:  # no dvc.yaml
        return {}
