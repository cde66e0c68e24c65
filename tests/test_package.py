"""What is built from a checkout: the package alone, whatever else lies in the folder; it needs no checkout to work."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers

from flows.pins import read_pins
from tests.conftest import ROOT
from tests.fixtures import imported
from tests.stages.conftest import new_clone

PRIVATE = ["infra/.env", ".dvc/config.local", "infra/terraform/terraform.tfstate", "notes.txt"]
"""Files with keys that git ignores, by .gitignore files below the root, and one that it does not know."""
PROJECT = {".gitignore", ".dvcignore", "data", "dvc.yaml"}
"""Of what `cspipe init` makes; the wheel has it in the package."""
DOCKERIGNORE = ROOT / "infra/worker.Dockerfile.dockerignore"
# Templates are for exported folders, beside diffusers.
IMPORT_ALL = (
    "import importlib, importlib.util, pkgutil, cspipe\n"
    "assert not importlib.util.find_spec('prefect'), 'of flows/, which is not in the wheel'\n"
    "for found in pkgutil.walk_packages(cspipe.__path__, 'cspipe.'):\n"
    "    if not found.name.startswith('cspipe.exchange.templates.'): importlib.import_module(found.name)"
)


def built(checkout: Path, target: str, folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    [file] = folder.iterdir()
    return file


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("sdist", {"cspipe", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "PKG-INFO", *PROJECT}),
        ("wheel", {"cspipe", "cspipe-1.2.3.dist-info"}),
    ],
)
def test_a_build_holds_the_package_and_nothing_else(target: str, expected: set[str], tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    new_clone(folder, {})
    for tag in ("v1.2.3", "main@v7.0.0"):  # a version of the package, and one of a model
        subprocess.run(["git", "tag", tag], cwd=folder, check=True)
    for name in PRIVATE:
        (folder / name).write_text("secret")
    file = built(folder, target, tmp_path / "built")
    with tarfile.open(file) if target == "sdist" else zipfile.ZipFile(file) as archive:
        names = archive.getnames() if isinstance(archive, tarfile.TarFile) else archive.namelist()
    assert {Path(name).parts[target == "sdist"] for name in names} == expected


def test_a_folder_without_git_builds_with_complete_metadata(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cspipe", tmp_path / "folder/cspipe")
    kept = [line[1:] for line in DOCKERIGNORE.read_text().splitlines() if line.startswith("!")]
    for name in kept:  # the worker's image is built of these
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, tmp_path / "folder" / name)
    found = metadata(built(tmp_path / "folder", "wheel", tmp_path / "built"))
    assert found["Version"] == "0.1.dev0"
    given = {"Summary", "License-Expression", "Author", "Requires-Python", "Keywords", "Project-URL", "License-File"}
    assert [name for name in given if not found[name]] == []
    assert set(found.get_all("Classifier", [])) <= classifiers
    assert found["Description-Content-Type"] == "text/markdown"
    text = found.get_payload(decode=True).decode()
    assert re.findall(r"\]\((?!https://)|src=", text) == []  # a package index has no other files
    assert "cspipe init" in text


def test_no_version_is_released_that_the_changelog_does_not_have(tmp_path: Path) -> None:
    new_clone(tmp_path, {})
    subprocess.run(["git", "tag", "v1.2.3"], cwd=tmp_path, check=True)
    done = subprocess.run(["bash", ".ci/release"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == 'CHANGELOG.md: no heading "## 1.2.3 - DATE"; write it, and tag again\n'


@pytest.mark.parametrize("package", ["cspipe", "flows"])
def test_what_is_imported_is_declared(package: str) -> None:
    """The wheel needs no package that flows/ alone imports; `cspipe doctor` asks Prefect where it is installed."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, own = tree["project"], {"cspipe": ["prefect"], "flows": tree["dependency-groups"]["flows"]}
    declared = [*project["dependencies"], *project["optional-dependencies"]["export"], *own[package]]
    names = {canonicalize_name(Requirement(each).name) for each in declared}
    dotted = {name for file in (ROOT / package).rglob("*.py") for name in imported(file)}
    others = {name.partition(".")[0] for name in dotted} - sys.stdlib_module_names - {"cspipe", "flows"}
    owners = packages_distributions()
    unknown = {each for each in others if not names & {canonicalize_name(name) for name in owners.get(each, ())}}
    assert unknown == set()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")
@pytest.mark.parametrize("target", ["sdist", "wheel"])
def test_it_works_in_a_new_environment_outside_of_a_checkout(target: str, tmp_path: Path) -> None:
    """With the dependencies that it names alone, at the pinned versions."""
    new_clone(tmp_path / "checkout", {})
    file = built(tmp_path / "checkout", target, tmp_path / "built")
    shutil.rmtree(tmp_path / "checkout")
    (tmp_path / "pins.txt").write_text("\n".join(read_pins((ROOT / "pyproject.toml").read_text())))
    python = tmp_path / "venv/bin/python"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for command in (
        ["uv", "venv", "--python", sys.executable, "venv"],
        ["uv", "pip", "install", "--python", python, "--constraints", "pins.txt", file],
        [python, "-c", IMPORT_ALL],
        ["venv/bin/cspipe", "--help"],
        ["venv/bin/cspipe", "params", "show", "demo"],
    ):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
