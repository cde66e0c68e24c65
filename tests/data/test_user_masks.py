"""Masks that a person brings: what is a hole, other sizes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspipe.data.user_masks import load_masks
from cspipe.ingest.user_masks import read_mask, read_masks
from cspipe.runtime.errors import UserError

HOLE = np.random.default_rng(0).random((16, 16)) < 0.3


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def white(hole: np.ndarray) -> np.ndarray:
    return hole.astype(np.uint8) * 255


def test_white_is_the_hole(tmp_path: Path) -> None:
    for name, pixels in {
        "grey.png": white(HOLE),
        "rgb.png": np.stack([white(HOLE)] * 3, 2),
        "bits.png": HOLE,
        "sixteen.png": HOLE.astype(np.uint16) * 65535,
        "dim.png": np.where(HOLE, 128, 127).astype(np.uint8),
    }.items():
        np.testing.assert_array_equal(read_mask(save(tmp_path / name, pixels), 16), HOLE, name)


def test_a_mask_of_another_size_takes_the_nearest_pixels(tmp_path: Path) -> None:
    larger = save(tmp_path / "larger.png", white(np.kron(HOLE, np.ones((3, 2), bool))))
    np.testing.assert_array_equal(read_mask(larger, 16), HOLE)
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "a.png", white(HOLE)), 32), np.kron(HOLE, np.ones((2, 2), bool))
    )


def test_prepared_masks_are_read_back_and_refused_at_another_size(tmp_path: Path) -> None:
    save(tmp_path / "mask.png", white(np.eye(10, dtype=np.bool_)))
    read_masks(tmp_path, 10).save(tmp_path)
    np.testing.assert_array_equal(
        load_masks(tmp_path, 10).draw(10, np.random.default_rng(0)), np.eye(10, dtype=np.bool_)
    )
    with pytest.raises(UserError, match="not masks of 12 pixels; run `dvc repro --force prepare`"):
        load_masks(tmp_path, 12)
    with pytest.raises(UserError, match="no masks"):
        load_masks(tmp_path / "away", 10)
    with (tmp_path / "masks.npy").open("wb") as file:  # says that it has terabytes
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 13)})
    with pytest.raises(UserError, match=r"masks\.npy: no masks"):
        load_masks(tmp_path, 10)


def test_a_hole_that_is_lost_in_the_resize_is_refused(tmp_path: Path) -> None:
    speck = np.zeros((64, 64), np.uint8)
    speck[0, 0] = 255
    save(tmp_path / "speck.png", speck)
    assert read_masks(tmp_path, 64).draw(64, np.random.default_rng(0)).sum() == 1
    with pytest.raises(UserError, match=r"speck\.png: a mask without a hole at 8 x 8"):
        read_masks(tmp_path, 8)


def test_what_is_no_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mask_folder.*is no folder"):
        read_masks(tmp_path / "away", 8)
    (tmp_path / "notes.txt").write_text("masks")
    with pytest.raises(UserError, match=r"mask_folder.*holds no images"):
        read_masks(tmp_path, 8)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(UserError, match=r"bad\.png: no mask"):
        read_masks(tmp_path, 8)
    with pytest.raises(UserError, match=r"gone\.png: the mask cannot be read \(No such file"):
        read_mask(tmp_path / "gone.png", 8)
