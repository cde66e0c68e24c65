"""dvc.yaml declares what the stages do: every module that decides a stage's bytes is a dependency of it."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NO_DEPENDENCY = {
    "cspipe/__init__.py",
    "cspipe/runtime/shared_cache.py",
    "cspipe/runtime/registry.py",
    "cspipe/runtime/errors.py",
    "cspipe/runtime/files.py",
    "cspipe/runtime/gpu_lock.py",
    "cspipe/config/params.py",
    "cspipe/config/params_file.py",
    "cspipe/runtime/ends.py",
    "cspipe/runtime/preemption.py",
    "cspipe/runtime/progress.py",
    "cspipe/runtime/provenance.py",
    "cspipe/runtime/runlog.py",
    "cspipe/runtime/settings.py",
    "cspipe/stages/__init__.py",
    "cspipe/stages/early_checks.py",
    "cspipe/stages/stage.py",
    "cspipe/stages/states.py",
    "cspipe/runtime/storage.py",
    "cspipe/runtime/storage_errors.py",
    "cspipe/runtime/tracking.py",
    "cspipe/sampling/variants.py",
}
"""They read parameters, whose values are tracked as params, show progress, record what was done, keep states safe."""


def definition(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def module_file(name: str) -> str | None:
    path = Path(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if (ROOT / file).is_file():
            return file.as_posix()
    return None


def imports(file: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cspipe"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("cspipe")}
    return {path for name in found if (path := module_file(name))}


def closure(*files: str) -> set[str]:
    seen, waiting = set(), set(files)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= imports(file) - seen - NO_DEPENDENCY
    return {file for file in seen if "import" in (ROOT / file).read_text() or not file.endswith("__init__.py")}


def covered(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency}/")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_depends_on_exactly_the_code_it_imports(stage: str) -> None:
    declared = [dep for dep in definition(stage)["deps"] if dep.startswith("cspipe")]
    chosen_by_name = [file for dependency in declared for file in (ROOT / dependency).glob("**/*.py")]
    needed = closure(f"cspipe/stages/{stage}.py", *(file.relative_to(ROOT).as_posix() for file in chosen_by_name))
    missing = {file for file in needed if not any(covered(dependency, file) for dependency in declared)}
    unused = {dependency for dependency in declared if not any(covered(dependency, file) for file in needed)}
    assert not missing
    assert not unused
    assert all((ROOT / dependency).exists() for dependency in declared)


@pytest.mark.parametrize("stage", ["train", "compensate", "sample", "evaluate"])
def test_stage_records_the_code_that_dvc_watches(stage: str) -> None:
    declared = tuple(dep for dep in definition(stage)["deps"] if dep.startswith("cspipe"))
    assert declared == import_module(f"cspipe.stages.{stage}").CODE


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stage_has_a_description_and_a_pool(stage: str) -> None:
    assert definition(stage)["desc"]
    assert definition(stage)["meta"]["pool"] in ("cpu", "gpu")
