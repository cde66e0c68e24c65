"""The script that makes CIFAR-10's array of a package: its order, and what it refuses."""

import io
import runpy
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = runpy.run_path("studies/cifar10/images.py")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An archive like the package's, with two images in each file: all pixels of image i are i."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for number, name in enumerate(SCRIPT["PACKED"]):
            rows = np.repeat(np.arange(2 * number, 2 * number + 2, dtype=np.uint8)[:, None], 3072, axis=1)
            packed = io.BytesIO()
            Image.fromarray(rows.reshape(2, 1024, 3)).save(packed, "png")
            member = tarfile.TarInfo(name)
            member.size = len(packed.getvalue())
            archive.addfile(member, io.BytesIO(packed.getvalue()))
    return path


def test_images_of_a_package_come_in_the_order_of_its_files(package: Path) -> None:
    images = SCRIPT["read_package"](package)
    assert images.shape == (12, 32, 32, 3)
    assert (images == np.arange(12)[:, None, None, None]).all()


def test_other_images_are_refused_and_nothing_is_written(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=str(package)):
        SCRIPT["main"](package)
    assert not Path("data").exists()


def test_what_is_no_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no archive")
    with tarfile.open(tmp_path / "other", "w:gz") as archive:
        archive.add(tmp_path / "text")
    with tarfile.open(tmp_path / "no-images", "w:gz") as archive:
        for name in SCRIPT["PACKED"]:
            archive.add(tmp_path / "text", name)
    for name in ("absent", "text", "other", "no-images"):
        with pytest.raises(SystemExit, match=name):
            SCRIPT["main"](Path(name))
