"""Shards: images as plain .npy files of at most 64 MiB, described and hashed in index.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file

SHARD_BYTES = 64 * 2**20
INDEX, INDEX_BYTES = "index.json", 2**26
"""Name of the index, and its largest size in bytes; it has some hundreds of bytes for each shard."""
FIX = "run `dvc repro --force prepare` (or `dvc pull` if another machine prepared the data)"


def shard_length(shape: tuple[int, int, int]) -> int:
    """Number of images of `shape` (C, H, W) in a full shard."""
    return max(SHARD_BYTES // prod(shape), 1)


@dataclass
class ShardWriter:
    """Writes images, in the order of `add`, to shards `<name>-00000.npy`, ... of a folder."""

    folder: Path
    name: str
    shape: tuple[int, int, int]
    """Shape (C, H, W) of an image."""
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Index entries of the shards written: file, images, sha256. Entries given at the start stay."""

    def __post_init__(self) -> None:
        self._buffer, self._filled = np.empty((shard_length(self.shape), *self.shape), np.uint8), 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Append one image (C, H, W)."""
        self._buffer[self._filled] = pixels
        self._filled += 1
        if self._filled == len(self._buffer):
            self.flush()

    def flush(self) -> None:
        """Write the images that wait for their shard to fill up, as a complete shard that is synced to the disk."""
        if not self._filled:
            return
        path = self.folder / f"{self.name}-{len(self.shards):05}.npy"
        pixels = self._buffer[: self._filled]
        with whole_file(path) as beside, beside.open("wb") as file:
            npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(pixels))
            file.write(pixels.data)  # np.save hides that a disk is full
        self.shards.append({"file": path.name, "images": self._filled, "sha256": sha256_file(path)})
        self._buffer, self._filled = np.empty_like(self._buffer), 0  # takes memory only as it is filled


def sha256_of(shards: Sequence[dict[str, Any]]) -> str:
    """Hash of a sequence of shards: the sha256 of their joined hashes."""
    return hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()


@dataclass
class ShardFile:
    """Images in a shard's file, memory-mapped only while some are read, as a map that stays keeps the file open."""

    path: Path
    shape: tuple[int, ...]
    """Shape (n, C, H, W) of all its images."""
    sha256: str
    stamp: tuple[int, int] | None = None
    """Inode and modification time (ns) of the file when it was last read."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of the images with these numbers.

        Raises UserError if the file is missing, no array, not of `shape`, or has other content since the first read.
        """
        try:
            array: NDArray[np.uint8] = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if array.shape != self.shape or array.dtype != np.uint8:
                found = f"{array.dtype} of shape {array.shape}"
                raise UserError(f"{self.path}: {found}, but {INDEX} says uint8 of {self.shape}; {FIX}")
            pixels = np.asarray(array[numbers])
            facts = self.path.stat()  # after the copy: what is written meanwhile is noticed here
        except FileNotFoundError:
            raise UserError(f"{self.path}: not there; {FIX}") from None
        except (ValueError, EOFError, SyntaxError, TokenError) as error:  # NumPy parses a header as Python
            raise UserError(f"{self.path}: damaged ({error}); {FIX}") from None
        stamp = facts.st_ino, facts.st_mtime_ns
        if self.stamp not in (None, stamp) and sha256_file(self.path) != self.sha256:
            raise UserError(f"{self.path}: changed while it was in use; run the same command again, or {FIX}")
        self.stamp = stamp
        return pixels


@dataclass(frozen=True)
class Shards:
    """Images of one split, kept on the disk, so that they need not fit into memory."""

    shape: tuple[int, int, int]
    """Shape (C, H, W) of an image."""
    arrays: Sequence[ShardFile | NDArray[np.uint8]]
    """The shards, each (n, C, H, W)."""
    sha256: str
    """Hash of all shards, including those of `paired`."""
    paired: Shards | None = None
    """The same images, in the same order, with something in front."""

    def __len__(self) -> int:
        return sum(len(array) for array in self.arrays)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images (len(indices), C, H, W) at indices 0 <= index < len, in any order. Raises IndexError."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= np.min(indices) <= np.max(indices) < len(self):
            raise IndexError(f"images {np.min(indices)}..{np.max(indices)} of 0..{len(self) - 1}")
        starts = np.cumsum([0, *map(len, self.arrays)])
        shard = np.searchsorted(starts, indices, side="right") - 1
        pixels = np.empty((len(indices), *self.shape), np.uint8)
        for number in np.unique(shard):
            chosen = shard == number
            pixels[chosen] = self.arrays[number][indices[chosen] - starts[number]]
        return pixels


def open_split(folder: Path, split: str, verify: bool = True) -> Shards:
    """Open a split, "train" or "test", of a prepared folder; `verify` compares every shard with its hash.

    Raises UserError, naming the file and what to do, if something is missing, damaged or of the wrong shape.
    """
    index = read_index(folder)
    try:
        shape = (int(index["channels"]), int(index["size"]), int(index["size"]))
        entry = index["splits"][split]
        plain = _open_shards(folder, shape, entry["shards"], verify)
        if "paired_shards" not in entry:
            return plain
        paired = _open_shards(folder, shape, entry["paired_shards"], verify)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / INDEX}: not as this version writes it ({error!r}); {FIX}") from None
    if len(paired) != len(plain):
        raise UserError(f"{folder / INDEX}: {len(plain)} {split} images, but {len(paired)} pairs; {FIX}")
    return Shards(plain.shape, plain.arrays, sha256_of([*entry["shards"], *entry["paired_shards"]]), paired)


def read_index(folder: Path) -> dict[str, Any]:
    """Read the index of a prepared folder. Raises UserError if it is missing or damaged."""
    path = folder / INDEX
    try:
        if path.stat().st_size > INDEX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, more than {INDEX_BYTES}")
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not there; {FIX}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); {FIX}") from None
    if not isinstance(index, dict):
        raise UserError(f"{path}: not as this version writes it; {FIX}")
    return index


def _open_shards(folder: Path, shape: tuple[int, int, int], shards: list[dict[str, Any]], verify: bool) -> Shards:
    """Open shards by their index entries. Raises UserError as `open_split` does, and KeyError for malformed entries."""
    files = [ShardFile(folder / Path(each["file"]).name, (each["images"], *shape), each["sha256"]) for each in shards]
    for file in files:
        file[np.empty(0, np.int64)]  # raises for what is missing, before any work
    for file in files if verify else []:
        if sha256_file(file.path) != file.sha256:
            raise UserError(f"{file.path}: its content differs from the sha256 in {INDEX} (damaged or edited); {FIX}")
    return Shards(shape, files, sha256_of(shards))
