"""Which code made a file, by git's object ids.

A commit id inside an output would change its bytes with every commit, its own included. Git's object ids name content:
they are the same in any clone, and `git log --find-object=ID` lists the commits that introduced or removed it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import ROOT

PIPELINE = "dvc.yaml"


def _object_id(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).digest()


EMPTY = _object_id("tree", b"")


def _blob(path: Path) -> bytes:
    return _object_id("blob", path.read_bytes())


def _tree(folder: Path) -> bytes:
    """Git's tree id of a source folder. Entries are sorted as git does: folders as if their names ended with a slash.

    Caches are left out, and folders with nothing else, which a checkout may leave behind: git has neither.
    """
    entries = []
    for path in folder.iterdir():
        if path.is_dir():
            if path.name != "__pycache__" and (tree := _tree(path)) != EMPTY:
                entries.append((f"{path.name}/", b"40000", path.name, tree))
        elif path.is_file() and path.suffix != ".pyc":
            entries.append((path.name, b"100644", path.name, _blob(path)))
    content = b"".join(mode + b" " + name.encode() + b"\0" + oid for _, mode, name, oid in sorted(entries))
    return _object_id("tree", content)


def code_ids(*paths: str) -> dict[str, str]:
    """Git object ids of the package's source files or folders, such as "cspipe/diffusion", shortened to 12 digits."""
    found = {path: ROOT / path for path in paths}
    return {path: (_tree(file) if file.is_dir() else _blob(file)).hex()[:12] for path, file in found.items()}


def shipped(name: str) -> Path:
    """Path of a project file such as dvc.yaml: in the checkout, or in the installed package, which contains a copy."""
    file = ROOT / name
    return file if file.exists() else ROOT / "cspipe/project" / name


def stage_code(stage: str, params: Mapping[str, Any] | None = None, variant: str | None = None) -> dict[str, str]:
    """`code_ids` of the code that the shipped dvc.yaml names as dependencies of a stage.

    Raises UserError if there is no such stage.
    """
    try:
        code = stages_code(shipped(PIPELINE))[stage]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{shipped(PIPELINE)}: no stage {stage} ({error}); install cspipe anew") from None
    variants = [] if variant is None else [variant]
    return code_ids(*(path for template in code for path in fill_in(template, params or {}, variants)))


def stages_code(pipeline: Path) -> dict[str, list[str]]:
    """The code paths that each stage of a dvc.yaml depends on, by stage, as templates for `fill_in`."""
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    deps = {name: entry.get("do", entry)["deps"] for name, entry in stages.items()}
    return {name: [path for path in paths if path.startswith("cspipe/")] for name, paths in deps.items()}


def fill_in(template: str, params: Mapping[str, Any], variants: Iterable[str]) -> set[str]:
    """Fill in a path of dvc.yaml as DVC does: `${a.b}` from `params`, `${item.a}` and `${key}` from each variant."""

    def value(tree: Any, keys: str) -> str:
        """Return the value at a dotted key."""
        for key in keys.split("."):
            tree = tree[key]
        return str(tree)

    rows = [{"key": name, "item": params["variants"][name]} for name in variants] or [{}]
    return {re.sub(r"\$\{([\w.]+)\}", lambda match: value({**params, **row}, match[1]), template) for row in rows}  # noqa: B023
