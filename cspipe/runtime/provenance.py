"""Which code made a file, as git names it.

A commit id inside an output would change its bytes with every commit, its own included. Git's object ids name content:
they are the same in any clone, and `git log --find-object=ID` tells the commits that introduced it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cspipe.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
"""Of the checkout."""


def _object_id(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).digest()


def _blob(path: Path) -> bytes:
    return _object_id("blob", path.read_bytes())


def _tree(folder: Path) -> bytes:
    """Git's tree id of a source folder; caches are not in git. Entries sort as git does: folders as if with a slash."""
    entries = []
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            entries.append((f"{path.name}/", b"40000", path.name, _tree(path)))
        elif path.is_file() and path.suffix != ".pyc":
            entries.append((path.name, b"100644", path.name, _blob(path)))
    content = b"".join(mode + b" " + name.encode() + b"\0" + oid for _, mode, name, oid in sorted(entries))
    return _object_id("tree", content)


def code_ids(*paths: str) -> dict[str, str]:
    """Git object ids of the package's source files or folders, such as "cspipe/diffusion", shortened to 12 digits."""
    found = {path: ROOT / path for path in paths}
    return {path: (_tree(file) if file.is_dir() else _blob(file)).hex()[:12] for path, file in found.items()}


def stage_code(stage: str, params: Mapping[str, Any] | None = None, variant: str | None = None) -> dict[str, str]:
    """`code_ids` of the code that dvc.yaml, beside the package, names as dependencies of a stage.

    `${a.b}` there is a value of `params`, as DVC fills it in; of a stage that runs once per variant, `${item.a}` is a
    value of the variant. Raises UserError if there is no such stage.
    """
    try:
        entry = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{ROOT / 'dvc.yaml'}: no stage {stage} ({error}); run in a checkout of the project") from None
    values = dict(params or {})
    if variant is not None:
        values |= {"key": variant, "item": values["variants"][variant]}

    def value(match: re.Match[str]) -> str:
        """A value by its dotted key."""
        found: Any = values
        for key in match[1].split("."):
            found = found[key]
        return str(found)

    code = [path for path in entry.get("do", entry)["deps"] if path.startswith("cspipe/")]
    return code_ids(*(re.sub(r"\$\{([\w.]+)\}", value, path) for path in code))
