"""Every script of benchmarks/ and docs/ runs, on the smallest thing that it can run on."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.cli.browser import CHROMIUM
from tests.conftest import ROOT, Tree, change
from tests.stages.conftest import stages

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if "__main__" in path.read_text()
)
ARGUMENTS = {
    "benchmarks/__main__.py": ["--smallest"],
    "benchmarks/gpu.py": ["--smallest", "--out", "results"],
    "docs/figures.py": ["RUN", "RUN"],
    "docs/forest.py": [],
}
"""RUN: the folder of a finished run."""


@pytest.fixture(scope="module")
def run(small: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data, a net of task inpaint, and its samples of one variant."""
    folder = tmp_path_factory.mktemp("run")
    variants = {"ddim-10": change(small["variants"]["ddim-100"], {"steps": 4})}
    changes = {
        "task": "inpaint",
        "condition.masks": ["half"],
        "variants": variants,
        "train.method": "plain",
        "train.images": 16,
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(change(small, changes), sort_keys=False))
    stages(folder, "prepare", "train", "sample ddim-10")
    return folder


def start(script: str, folder: Path, *arguments: str) -> None:
    """Run a script in a folder that has docs/results; those of docs/ in this process, where torch is there already."""
    shutil.copytree(ROOT / "docs/results", folder / "docs/results", dirs_exist_ok=True)
    if script.startswith("docs/"):
        with pytest.MonkeyPatch.context() as here:
            here.chdir(folder)
            here.setattr(sys, "argv", [script, *arguments])
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command, environment = [sys.executable, str(ROOT / script), *arguments], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_figures_of_nets_are_drawn(small: Tree, tmp_path: Path) -> None:
    tree = change(small, {"train.method": "plain", "train.images": 16})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    stages(tmp_path, "prepare", "train", "compensate")
    start("docs/figures.py", tmp_path, "first-estimate", "models/main", "models/main")
    start("docs/figures.py", tmp_path, "one-step-behind", ".", ".")
    for name in ("first-estimate", "one-step-behind"):
        assert min(Image.open(tmp_path / f"docs/{name}.png").size) > 100
    if CHROMIUM is not None:
        start("docs/figures.py", tmp_path, "serve")
        assert Image.open(tmp_path / "docs/serve.png").size == (1080, 735)


def test_figure_of_committed_results_is_drawn(tmp_path: Path) -> None:
    start("docs/figures.py", tmp_path, "inpaint-variance")
    assert min(Image.open(tmp_path / "docs/inpaint-variance.png").size) > 100


@pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=pytest.mark.slow if name == "benchmarks/__main__.py" else ()) for name in SCRIPTS],
)
def test_script_runs(script: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    arguments = ARGUMENTS[script]
    if "RUN" in arguments:
        folder = str(request.getfixturevalue("run"))
        arguments = [folder if argument == "RUN" else argument for argument in arguments]
    start(script, tmp_path, *arguments)
    for drawn in {"docs/figures.py": ["tasks"], "docs/forest.py": ["forest"]}.get(script, []):
        assert min(Image.open(tmp_path / f"docs/{drawn}.png").size) > 100
