"""CIFAR-10 (Krizhevsky 2009): the Python version, from the folder data.path, or downloaded there.

Its 50,000 train images are compared with a published hash; its 10,000 test images are the test split.
"""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cspipe.ingest.arrays import ArrayImages
from cspipe.ingest.files import stamp_of
from cspipe.ingest.images import RESIZE
from cspipe.ingest.source import Facts, Split, divide_officially, form_of, path_of
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

if TYPE_CHECKING:
    from cspipe.config.params import Data

READS_PATH = OFFICIAL_SPLIT = DOWNLOADS = True
PAIRED = False
FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
URL, ARCHIVE_MD5 = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}", "c58f30108f718f92721af3b95e74349a"
"""As in torchvision."""
TRAIN_SHA256 = "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"
"""Of the train images in the order of the batches, uint8 (50000, 32, 32, 3)."""
TEST_SHA256 = "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
"""Of the test images, (10000, 32, 32, 3); their channel means are the known .4942 .4851 .4504."""
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
PER_BATCH = 10_000
TRAIN_IMAGES = 5 * PER_BATCH
EXPECTED = f"put {ARCHIVE} (170,498,071 bytes, md5 {ARCHIVE_MD5}) from {URL} into that folder"
PERMITTED = {("numpy", "ndarray"), ("numpy", "dtype")}
"""What a batch may name, besides the function that numpy restores arrays with; a pickle could run anything."""


def open_source(data: Data) -> ArrayImages:
    """The images in the folder data.path, downloaded if they are not there.

    Raises UserError if they cannot be downloaded, are damaged, or are not those that were published.
    """
    path = path_of(data)
    where = f"params.yaml: data.path {path}"
    if path.exists() and not path.is_dir():
        raise UserError(f"{where} is a file; name a folder, and {EXPECTED}")
    if not (path / FOLDER).is_dir() and not (path / ARCHIVE).exists():
        _download(path, where)
    images = _read(path, where)
    splits: dict[str, Split] = {
        str(number): "train" if number < 5 * PER_BATCH else "test" for number in range(6 * PER_BATCH)
    }
    numbers = [(split, int(name)) for split, name in divide_officially(splits, data.limit)]
    facts: Facts = {"licence": "none stated; cite Krizhevsky 2009", "resize": RESIZE, "train_sha256": TRAIN_SHA256}
    return ArrayImages(images, numbers, form_of(data), stamp_of(_files(path)), facts)


def _download(folder: Path, where: str) -> None:
    """Fetch the archive, whole and with the published md5, or nothing. Raises UserError."""
    from torchvision.datasets.utils import download_url  # type: ignore[import-untyped]  # brings torch along

    try:
        with whole_file(folder / ARCHIVE) as beside:
            download_url(URL, str(beside.parent), beside.name, ARCHIVE_MD5)
    except (OSError, RuntimeError) as error:  # torchvision's for what is not of the md5
        raise UserError(f"{where}: {URL} could not be downloaded ({error}); {EXPECTED}") from None


def _files(folder: Path) -> list[Path]:
    """What is read: the batches, or the archive."""
    batches = [folder / FOLDER / name for name in BATCHES]
    return batches if (folder / FOLDER).is_dir() else [folder / ARCHIVE]


def _read(folder: Path, where: str) -> NDArray[np.uint8]:
    """All images (N, H, W, C), those of the test batch last. Raises UserError."""
    try:
        if (folder / FOLDER).is_dir():
            images = _stack(lambda name: (folder / FOLDER / name).open("rb"))
        else:
            with tarfile.open(folder / ARCHIVE) as archive:
                images = _stack(lambda name: _member(archive, f"{FOLDER}/{name}"))
    except FileNotFoundError as error:
        raise UserError(f"{where} lacks {FOLDER}/{Path(error.filename).name}; {EXPECTED}") from None
    except PermissionError:
        raise
    except (OSError, EOFError, tarfile.TarError, ValueError) as error:
        raise UserError(f"{where}: damaged ({error}); remove it and {EXPECTED}") from None
    train, test = np.split(images, [5 * PER_BATCH])
    for split, part, sha256 in (("train", train, TRAIN_SHA256), ("test", test, TEST_SHA256)):
        digest = hashlib.sha256(part.data).hexdigest()
        if digest != sha256:
            raise UserError(f"{where}: the {split} images have sha256 {digest}, not {sha256}; {EXPECTED}")
    return images


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise FileNotFoundError(2, "not in the archive", name)
    return file


def _stack(open_batch: Callable[[str], IO[bytes]]) -> NDArray[np.uint8]:
    """The images of all batches, (N, H, W, C). Raises ValueError for what is no batch."""
    images = np.empty((len(BATCHES), PER_BATCH, 32, 32, 3), np.uint8)
    for place, name in zip(images, BATCHES, strict=True):
        with open_batch(name) as file:
            batch = _load(file, name)
        rows = batch.get("data") if isinstance(batch, dict) else None
        if not isinstance(rows, np.ndarray) or (rows.dtype, rows.shape) != (np.uint8, (PER_BATCH, 3 * 32 * 32)):
            raise ValueError(f"{name} does not hold {PER_BATCH} images")
        place[:] = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images.reshape(-1, 32, 32, 3)


def _load(file: IO[bytes], name: str) -> Any:
    """What a batch holds. Raises ValueError."""
    try:
        return _Unpickler(file, encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles, and archives, raise many kinds
        raise ValueError(f"{name}: {error}") from None


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, strings and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may name. Raises UnpicklingError for all else."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.ndarray((0,)).__reduce__()[0]
        if (module, name) in PERMITTED:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
