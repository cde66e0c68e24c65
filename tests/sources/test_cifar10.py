"""CIFAR-10 as it is published, small: batches, the archive, a server to download it from."""

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from cspipe.ingest.arrays import ArrayImages
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage
from cspipe.runtime.errors import UserError
from cspipe.sources import cifar10
from tests.conftest import Tree, change
from tests.fixtures import serving
from tests.stages.conftest import commit, new_clone, run_in

Open = Callable[..., ArrayImages]
PER_BATCH = 20
PIXELS = np.random.default_rng(0).integers(0, 256, (6 * PER_BATCH, 32, 32, 3), np.uint8)
"""(N, H, W, C): five train batches and the test batch."""
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
FILES = {
    name: pickle.dumps({"data": part.transpose(0, 3, 1, 2).reshape(PER_BATCH, -1), "labels": [0] * PER_BATCH}, 2)
    for name, part in zip(NAMES, np.split(PIXELS, 6), strict=True)
}
FILES["batches.meta"] = pickle.dumps({"label_names": ["plane"]}, 2)
MD5 = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}


def archive_of(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", 1, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def described(url: str, archive: Path) -> dict[str, Any]:
    """What torchvision knows of the data set, of one with 120 images."""
    return {
        "url": url,
        "tgz_md5": hashlib.md5(archive.read_bytes()).hexdigest(),
        "train_list": [[name, MD5[name]] for name in NAMES[:5]],
        "test_list": [["test_batch", MD5["test_batch"]]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": MD5["batches.meta"]},
    }


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The archive, in a folder that the server has."""
    return archive_of(tmp_path / "served/cifar-10-python.tar.gz")


@pytest.fixture
def server(served: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(served.parent))
    with serving(handler) as url:
        yield f"{url}/cifar-10-python.tar.gz"


@pytest.fixture
def opened(settings: Callable[..., DataSettings], served: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a folder as the source, in a world in which the data set has 120 images, and no network."""
    for name, value in described("http://127.0.0.1:9/cifar-10-python.tar.gz", served).items():
        monkeypatch.setattr(CIFAR10, name, value)
    return lambda path, **values: cifar10.open_source(settings(source="cifar10", path=path, size=32, **values))


def complaint(opened: Open, folder: Path) -> str:
    """Why a folder is refused; the archive, its size and the folder are always named."""
    with pytest.raises(UserError) as error:
        opened(folder)
    message = str(error.value)
    for part in (f"data.path {folder}", "cifar-10-python.tar.gz", "170,498,071 bytes, md5 c58f30108f718f92721af3b95e7"):
        assert part in message
    return message


def test_archive_and_folder_give_the_same_images_in_the_official_split(tmp_path: Path, opened: Open) -> None:
    archive_of(tmp_path / "a/cifar-10-python.tar.gz")
    (tmp_path / "b/cifar-10-batches-py").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "b/cifar-10-batches-py" / name).write_bytes(content)
    for folder in ("a", "b"):
        source = opened(tmp_path / folder)
        items = [item for item in source.stream(None) if isinstance(item, PreparedImage)]
        assert len(items) == source.total == 120
        for (split, number), item in zip(source.numbers, items, strict=True):
            assert item.split == split == ("train" if number < 100 else "test")
            np.testing.assert_array_equal(item.pixels, PIXELS[number].transpose(2, 0, 1))
        assert source.facts["train_sha256"] == hashlib.sha256(PIXELS[:100].tobytes()).hexdigest()


def test_what_is_not_there_is_downloaded_once(
    tmp_path: Path, opened: Open, server: str, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaint(opened, tmp_path / "raw")
    monkeypatch.setattr(CIFAR10, "url", server)
    assert opened(tmp_path / "raw").total == 120
    served.unlink()
    assert opened(tmp_path / "raw").total == 120


def test_what_is_damaged_is_refused_and_runs_nothing(tmp_path: Path, opened: Open) -> None:
    path = archive_of(tmp_path / "a/cifar-10-python.tar.gz")
    path.write_bytes(path.read_bytes()[:5000])
    complaint(opened, tmp_path / "a")
    (tmp_path / "b/cifar-10-batches-py").mkdir(parents=True)
    for name, content in {**FILES, "data_batch_3": b"cposix\nsystem\n(S'touch ran'\ntR."}.items():
        (tmp_path / "b/cifar-10-batches-py" / name).write_bytes(content)
    complaint(opened, tmp_path / "b")
    assert not Path("ran").exists()
    (tmp_path / "file").write_text("hello")
    complaint(opened, tmp_path / "file")


def test_the_download_belongs_to_the_stage(tmp_path: Path, small: Tree, server: str, served: Path) -> None:
    """A second repro does nothing, although the first one has put the images into data/raw."""
    data = {"source": "cifar10", "path": "data/raw/cifar10", "held_out": "official", "limit": None}
    clone = new_clone(tmp_path / "clone", change(small, {f"data.{key}": value for key, value in data.items()}))
    module, line = clone / "cspipe/sources/cifar10.py", "    path = path_of(data)\n"
    patches = "".join(f"    CIFAR10.{name} = {value!r}\n" for name, value in described(server, served).items())
    module.write_text(module.read_text().replace(line, patches + line))
    commit(clone, "a small data set")
    run_in(clone, "dvc", "repro", "prepare")
    assert (clone / "data/raw/cifar10/cifar-10-python.tar.gz").exists()
    assert "'prepare' didn't change" in run_in(clone, "dvc", "repro", "prepare").stdout
