"""The undisturbed pipeline. What tests here print are the figures that docs/reliability.md quotes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tree, change
from tests.faults.workspace import STAGES, Stage, folder_with, run

Before = Callable[[str, Stage], Path]


@pytest.fixture(scope="session")
def smallest(small: Tree) -> Tree:
    """The small parameters with a plain and a compensated variant."""
    variants = {name: small["variants"][name] for name in ("ddim-100", "cs-10")}
    return change(small, {"variants": variants, "train.images": 96, "sample.images": 48, "sample.batch": 4})


@pytest.fixture(scope="session")
def steps(tmp_path_factory: pytest.TempPathFactory, smallest: Tree) -> dict[Stage, Path]:
    """The folder before each stage of an undisturbed run, and after all under (). Tests leave them as they are."""
    folder = folder_with(tmp_path_factory.mktemp("undisturbed") / "0", smallest)
    found: dict[Stage, Path] = {}
    for number, stage in enumerate(STAGES):
        found[stage] = folder
        folder = Path(shutil.copytree(folder, folder.parent / str(number + 1)))
        run(folder, stage)
    return {**found, (): folder}


@pytest.fixture(scope="session")
def undisturbed(steps: dict[Stage, Path]) -> Path:
    """The folder of the undisturbed run. Tests leave it as it is."""
    return steps[()]


@pytest.fixture
def before(steps: dict[Stage, Path], tmp_path: Path) -> Before:
    """before("a", ("train",)): a folder of one's own in which all stages before this one have run."""
    return lambda name, stage: Path(shutil.copytree(steps[stage], tmp_path / name))
