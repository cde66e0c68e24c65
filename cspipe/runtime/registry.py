"""Choices that are files: a name in params.yaml that stands for a module of a package.

Adding the file adds the choice. Names are checked by listing the folder, so nothing is imported before it is chosen.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from cspipe.runtime.errors import UserError

ROOT = Path(__file__).parents[2]


def names_in(package: str) -> list[str]:
    """List the names to choose from: files of a package such as "cspipe.sources", sorted; none that starts with _."""
    files = ROOT.joinpath(*package.split(".")).glob("*.py")
    return sorted(file.stem for file in files if not file.name.startswith("_"))


def choice(package: str, name: str) -> ModuleType:
    """Import the module of a chosen file, which is known to exist. Raises UserError, with file and line, if invalid."""
    try:
        return import_module(f"{package}.{name}")
    except SyntaxError as error:
        raise UserError(f"{error.filename or f'{package}.{name}'}, line {error.lineno or 1}: {error.msg}") from None


def find(package: str, name: str, member: str) -> Any:
    """Return `member` of the file `name` of a package. Raises UserError if the file or its member is missing."""
    place = f"{package}.{name}"
    if not find_spec(place):
        raise UserError(f"{name!r} is no file of {package}; there are {', '.join(names_in(package))}")
    module = choice(package, name)
    if not hasattr(module, member):
        raise UserError(f"{module.__file__}: has no `{member}`; __init__.py beside it says what such a file needs")
    return getattr(module, member)
