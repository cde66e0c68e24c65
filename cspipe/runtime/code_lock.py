"""The file cspipe.lock: the code that a project's stages depend on, where cspipe is an installed package.

DVC reads it as a file of parameters, with a key for each file of the package, such as `cspipe.data.shards`. A newer
package therefore reruns only the stages whose code it changes.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import PIPELINE, code_ids, shipped, stages_code
from cspipe.runtime.registry import ROOT

LOCK = "cspipe.lock"
try:
    VERSION = version("cspipe")
except PackageNotFoundError:  # a checkout that is not installed, on a machine with its own torch
    VERSION = "of a checkout"


def installed_code() -> dict[str, Any]:
    """Git object ids of all code that stages need: {"version": ..., "cspipe": {"data": {"shards": id, ...}, ...}}."""
    tree: dict[str, Any] = {"version": VERSION}
    patterns = {re.sub(r"\$\{.*?\}", "*", path) for code in stages_code(shipped(PIPELINE)).values() for path in code}
    places = {place for pattern in patterns for place in ROOT.glob(pattern)}
    for file in sorted({file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}):
        path = file.relative_to(ROOT)
        folder = tree
        for part in path.parent.parts:
            folder = folder.setdefault(part, {})
        folder[path.stem] = code_ids(str(path))[str(path)]
    return tree


def check_code(folder: Path = Path()) -> None:
    """Raise UserError if the lock in `folder` is not of the installed code: DVC would record the wrong code."""
    try:
        locked = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        same, written_by = locked["cspipe"] == installed_code()["cspipe"], locked["version"]
    except FileNotFoundError:  # a checkout: its stages depend on the code files themselves
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{folder / LOCK}: cannot be read ({error!r}); `cspipe init .` writes it anew") from None
    if not same:
        raise UserError(
            f"{folder / LOCK}: of the code of cspipe {written_by}, but {VERSION} with other code is installed; "
            f"`cspipe init .` takes it up, and what it changes runs again; or install cspipe {written_by}"
        )
