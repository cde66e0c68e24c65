"""The scripts that take CIFAR-10 and the ORL faces out of a package: order and names, and what they refuse."""

import io
import runpy
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CIFAR10, ORL = (runpy.run_path(f"studies/{name}/images.py") for name in ("cifar10", "orl-faces"))
Files = dict[str, bytes]


def tar(path: Path, files: Files) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def pack(path: Path, files: Files) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


def of_cifar10() -> Files:
    """Two images in each file, a row each: all pixels of image i are i."""
    rows = np.arange(12).repeat(3072).reshape(6, 2, 1024, 3)
    return {name: encoded(pixels, "png") for name, pixels in zip(CIFAR10["PACKED"], rows, strict=True)}


def of_orl() -> Files:
    """All pixels of photograph i are i % 256."""
    return {name: encoded(np.full((112, 92), i % 256), "ppm") for i, name in enumerate(ORL["PACKED"].values())}


def test_images_of_cifar10_come_in_the_order_of_its_files(tmp_path: Path) -> None:
    tar(tmp_path / "package.tgz", of_cifar10())
    images = CIFAR10["read_package"](tmp_path / "package.tgz")
    assert images.shape == (12, 32, 32, 3)
    assert (images == np.arange(12)[:, None, None, None]).all()


def test_each_photograph_of_orl_keeps_its_name(tmp_path: Path) -> None:
    pack(tmp_path / "package.whl", of_orl())
    images = ORL["read_package"](tmp_path / "package.whl")
    assert len(images) == 400
    assert np.unique(images["s2-1.png"]) == 10


@pytest.mark.parametrize(("script", "write", "made"), [(CIFAR10, tar, of_cifar10), (ORL, pack, of_orl)])
def test_what_is_no_package_or_has_other_images_is_refused_and_nothing_is_written(
    script: dict[str, Any],
    write: Callable[[Path, Files], None],
    made: Callable[[], Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no archive")
    write(Path("other"), {"text": b"text"})
    write(Path("no-images"), dict.fromkeys(made(), b"text"))
    write(Path("other-images"), made())
    for name in ("absent", "text", "other", "no-images", "other-images"):
        with pytest.raises(SystemExit, match=name):
            script["main"](Path(name))
    assert not Path("data").exists()
