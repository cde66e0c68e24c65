"""CIFAR-10 (Krizhevsky 2009): the Python version, from the folder data.path, or downloaded there by torchvision.

torchvision compares the archive and every batch with their published md5 before it unpickles them. The 10,000
test images are the test split.
"""

from __future__ import annotations

import hashlib
import tarfile

import numpy as np

from cspipe.ingest.arrays import ArrayImages
from cspipe.ingest.files import stamp_of
from cspipe.ingest.images import RESIZE
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import Facts, Split, divide_officially, form_of, path_of
from cspipe.runtime.errors import UserError

READS_PATH = OFFICIAL_SPLIT = DOWNLOADS = True
PAIRED = False
TRAIN_IMAGES = 50_000
EXPECTED = (
    "put cifar-10-python.tar.gz (170,498,071 bytes, md5 c58f30108f718f92721af3b95e74349a) from "
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into that folder"
)


def open_source(data: DataSettings) -> ArrayImages:
    """Return the images in the folder data.path; download them if it has neither the archive nor the batches.

    Raises UserError if they cannot be downloaded, or are damaged.
    """
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]  # here, as it imports torch

    path = path_of(data)
    try:
        train, test = (np.ascontiguousarray(CIFAR10(path, train, download=True).data) for train in (True, False))
    except (OSError, EOFError, RuntimeError, tarfile.TarError) as error:
        raise UserError(
            f"params.yaml: data.path {path}: CIFAR-10 could not be read there or downloaded ({error}); {EXPECTED}"
        ) from None
    splits: dict[str, Split] = {
        str(number): "train" if number < len(train) else "test" for number in range(len(train) + len(test))
    }
    numbers = [(split, int(name)) for split, name in divide_officially(splits, data.limit)]
    facts: Facts = {
        "licence": "none stated; cite Krizhevsky 2009",
        "resize": RESIZE,
        "train_sha256": hashlib.sha256(train.data).hexdigest(),
    }
    stamp = stamp_of(sorted((path / CIFAR10.base_folder).iterdir()))
    return ArrayImages(np.concatenate([train, test]), numbers, form_of(data), stamp, facts)
