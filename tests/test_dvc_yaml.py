"""dvc.yaml declares what the stages do: every module that can change a stage's result is a dependency of it."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.fixtures import imported

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
OUTSIDE = ("cspipe/__init__.py", "cspipe/runtime/", "cspipe/config/")
"""They read parameters, whose values are tracked, show progress, record what was done, keep states safe."""


def definition(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def declared(stage: str) -> list[str]:
    """The code that a stage depends on; * for a file that parameters choose."""
    dependencies = [re.sub(r"\$\{[\w.]+\}", "*", path) for path in definition(stage)["deps"]]
    return [path for path in dependencies if path.startswith("cspipe/")]


def files(pattern: str) -> set[str]:
    """The source files of a dependency, those in a folder among them."""
    found = [path for place in ROOT.glob(pattern) for path in (place.rglob("*.py") if place.is_dir() else [place])]
    return {path.relative_to(ROOT).as_posix() for path in found}


def module_file(name: str) -> str | None:
    path = Path(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / file).is_file():
            return file.as_posix()
    return None


def imports(file: str) -> set[str]:
    return {path for name in imported(ROOT / file) if name.startswith("cspipe") and (path := module_file(name))}


def closure(start: set[str]) -> set[str]:
    """All that these files import, without what is outside and files that hold a docstring alone."""
    seen, waiting = set(), set(start)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= {path for path in imports(file) if not path.startswith(OUTSIDE)} - seen
    return {file for file in seen if len(ast.parse((ROOT / file).read_text()).body) > 1}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_depends_on_exactly_the_code_it_imports(stage: str) -> None:
    dependencies = {pattern: files(pattern) for pattern in declared(stage)}
    covered = set().union(*dependencies.values())
    needed = closure({f"cspipe/stages/{stage}.py", *covered})
    assert not needed - covered, "imported and not declared"
    assert not [pattern for pattern, found in dependencies.items() if not found & needed], "declared and not imported"
