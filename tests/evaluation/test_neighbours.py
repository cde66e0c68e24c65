"""Nearest training images, against a search written out here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cspipe.data.grid import save_png
from cspipe.evaluation import neighbours
from cspipe.evaluation.neighbours import Neighbours, nearest, nearest_ratio, sheet
from tests.evaluation.tiny import blobs, source_of

CPU = torch.device("cpu")


def distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Root of the summed squares of the difference, to the image or its mirror image."""
    return min(float(np.linalg.norm(a.astype(float) - other)) for other in (b, b[..., ::-1]))


def find(queries: NDArray[np.uint8], train: NDArray[np.uint8], k: int = 3) -> Neighbours:
    return nearest(queries, source_of(train), k, CPU)


@pytest.mark.parametrize("block", [1, 3 * 768, 2**24])
@pytest.mark.parametrize("channels", [1, 3])
def test_search_finds_what_comparing_all_pairs_finds(
    block: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", block)
    queries, train = blobs(5, 0, channels), blobs(20, 1, channels)
    found = find(queries, train)
    table = np.array([[distance(q, t) for t in train] for q in queries])
    np.testing.assert_array_equal(found.indices, np.argsort(table, axis=1, kind="stable")[:, :3])
    np.testing.assert_allclose(found.distances, np.sort(table, axis=1)[:, :3], rtol=1e-14)


def test_copies_are_found_mirrored_or_not() -> None:
    train = blobs(50, 0)
    copies = np.concatenate([train[[30, 4]], train[[7, 49]][..., ::-1]])
    found = find(copies, train)
    np.testing.assert_array_equal(found.indices[:, 0], [30, 4, 7, 49])
    np.testing.assert_array_equal(found.distances[:, 0], 0)
    assert (found.distances[:, 1] > 0).all()


def test_the_first_of_equals_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 2 * 768)
    train = blobs(7, 0)[[0, 1, 2, 1, 4, 1, 6]]
    np.testing.assert_array_equal(find(train[[1]], train).indices, [[1, 3, 5]])


def test_the_ratio_tells_copies_from_new_images() -> None:
    train, held_out = blobs(200, 0), find(blobs(40, 1), blobs(200, 0))
    assert nearest_ratio(find(train[:40], train), held_out) == 0
    assert nearest_ratio(find(blobs(40, 2), train), held_out) == pytest.approx(1, abs=0.2)
    assert nearest_ratio(held_out, find(train[:40], train)) is None


def test_the_sheet_shows_each_image_beside_its_neighbours(tmp_path: Path) -> None:
    train, samples, held_out = blobs(30, 0, size=64), blobs(6, 1, size=64), blobs(6, 2, size=64)
    near_samples, near_held_out = find(samples, train), find(held_out, train)
    for name in ("one.png", "two.png"):
        save_png(sheet(near_samples, near_held_out, source_of(train), 4), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    pixels = np.asarray(Image.open(tmp_path / "one.png"))
    assert pixels.shape == (4 * 65 + 1, 9 * 65 + 1, 3)

    def cell(row: int, column: int) -> NDArray[np.uint8]:
        return pixels[1 + 65 * row :][:64, 1 + 65 * column :][:, :64].transpose(2, 0, 1)

    np.testing.assert_array_equal(cell(2, 0), samples[2])
    np.testing.assert_array_equal(cell(2, 3), train[near_samples.indices[2, 2]])
    assert (cell(2, 4) == 255).all()
    np.testing.assert_array_equal(cell(3, 5), held_out[3])
    np.testing.assert_array_equal(cell(3, 6), train[near_held_out.indices[3, 0]])
