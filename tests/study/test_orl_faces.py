"""The script that makes a folder of the ORL faces in a package, and what it refuses."""

import io
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = runpy.run_path("studies/orl-faces/images.py")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An archive like the package's: all pixels of photograph i are i % 256."""
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(SCRIPT["PACKED"].values()):
            packed = io.BytesIO()
            Image.fromarray(np.full((112, 92), number % 256, np.uint8)).save(packed, "ppm")
            archive.writestr(name, packed.getvalue())
    return path


def test_each_photograph_of_a_package_keeps_its_name(package: Path) -> None:
    images = SCRIPT["read_package"](package)
    assert len(images) == 400
    assert np.unique(images["s2-1.png"]) == 10


def test_other_photographs_are_refused_and_nothing_is_written(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.write(tmp_path / "text")
    for file in (package, Path("absent"), Path("text"), Path("other")):
        with pytest.raises(SystemExit, match=file.name):
            SCRIPT["main"](file)
    assert not Path("data").exists()
