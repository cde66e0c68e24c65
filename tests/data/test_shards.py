"""Shards give back what was written, and say what is wrong with them."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cspipe.data import shards
from cspipe.data.shards import ShardWriter, open_split, sha256_of
from cspipe.runtime.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), np.uint8)


def write(folder: Path, name: str, images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    writer = ShardWriter(folder, name, images.shape[1:])
    for image in images:
        writer.add(image)
    writer.flush()
    return writer.shards


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images and their twins in shards of three."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 48 + 47)
    plain, paired = write(tmp_path, "train", IMAGES), write(tmp_path, "train-paired", 255 - IMAGES)
    split = {"images": 10, "sha256": sha256_of([*plain, *paired]), "shards": plain, "paired_shards": paired}
    save_index(tmp_path, {"size": 4, "channels": 3, "splits": {"train": split}})
    return tmp_path


def save_index(folder: Path, index: dict[str, Any]) -> None:
    (folder / "index.json").write_text(json.dumps(index))


def complaint(folder: Path, split: str = "train", verify: bool = True) -> str:
    """Why a folder is refused; the fix is always named."""
    with pytest.raises(UserError) as error:
        open_split(folder, split, verify)
    assert "dvc repro --force prepare" in str(error.value)
    return str(error.value)


def test_gather_across_shards_in_any_order(folder: Path) -> None:
    split = open_split(folder, "train")
    assert [len(array) for array in split.arrays] == [3, 3, 3, 1]
    assert (len(split), split.shape) == (10, (3, 4, 4))
    indices = np.array([9, 0, 2, 3, 3, 8, 5, 0])
    np.testing.assert_array_equal(split.gather(indices), IMAGES[indices])
    assert split.paired is not None
    np.testing.assert_array_equal(split.paired.gather(indices), 255 - IMAGES[indices])
    assert split.gather(np.empty(0, np.int64)).shape == (0, 3, 4, 4)


def test_more_shards_than_files_may_be_open(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 2, hard))
    try:
        np.testing.assert_array_equal(open_split(folder, "train").gather(np.arange(10)), IMAGES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_changed_byte_is_found(folder: Path) -> None:
    for name in ("train-00002.npy", "train-paired-00003.npy"):
        file = folder / name
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert name in complaint(folder)
        open_split(folder, "train", verify=False)
        file.write_bytes(good)
    open_split(folder, "train")


@pytest.mark.parametrize("way", ["in place", "another file"])
def test_other_bytes_under_a_split_in_use_are_refused_and_the_same_are_not(way: str, folder: Path) -> None:
    split, file = open_split(folder, "train"), folder / "train-00001.npy"
    content = file.read_bytes()
    for written in (content, content[:-1] + bytes([content[-1] ^ 1])):
        if way == "another file":
            file.unlink()
        file.write_bytes(written)
        os.utime(file, ns=(0, 0))
        if written == content:
            np.testing.assert_array_equal(split.gather(np.arange(10)), IMAGES)
        os.utime(file)
    with pytest.raises(UserError, match=r"train-00001\.npy"):
        split.gather(np.arange(10))


@pytest.mark.parametrize("verify", [True, False])
def test_missing_and_truncated_shards(folder: Path, verify: bool) -> None:
    file = folder / "train-00001.npy"
    file.write_bytes(file.read_bytes()[:-20])
    assert "train-00001.npy" in complaint(folder, verify=verify)
    file.write_bytes(b"")
    assert "train-00001.npy" in complaint(folder, verify=verify)
    file.unlink()
    assert "train-00001.npy: not there" in complaint(folder, verify=verify)


def test_missing_and_damaged_index(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    assert "test" in complaint(folder, split="test")
    for text in ("{", "[]", "{}", '{"channels": null}', "\xff", "[" * 100_000, " " * (2**26 + 1)):
        (folder / "index.json").write_text(text, encoding="latin-1")
        assert "index.json" in complaint(folder)
    index["splits"]["train"]["paired_shards"].pop()
    save_index(folder, index)
    assert "10 train images, but 9 pairs" in complaint(folder)
    (folder / "index.json").unlink()
    assert "index.json: not there" in complaint(folder)
