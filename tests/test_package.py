"""What is built from a checkout: the package alone, whatever else lies in the folder."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.stages.conftest import new_clone

PRIVATE = ["infra/.env", ".dvc/config.local", "infra/terraform/terraform.tfstate", "notes.txt"]
"""Files with keys that git ignores, by .gitignore files below the root, and one that it does not know."""
PROJECT = {".gitignore", ".dvcignore", "data", "dvc.yaml"}
"""Of what `cspipe init` makes; the wheel has it in the package."""


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("sdist", {"cspipe", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "PKG-INFO", *PROJECT}),
        ("wheel", {"cspipe", "cspipe-0.1.0.dist-info"}),
    ],
)
def test_a_build_holds_the_package_and_nothing_else(target: str, expected: set[str], tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    new_clone(folder, {})
    for name in PRIVATE:
        (folder / name).write_text("secret")
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(tmp_path / "built")]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    [file] = (tmp_path / "built").iterdir()
    with tarfile.open(file) if target == "sdist" else zipfile.ZipFile(file) as archive:
        names = archive.getnames() if isinstance(archive, tarfile.TarFile) else archive.namelist()
    assert {Path(name).parts[target == "sdist"] for name in names} == expected
