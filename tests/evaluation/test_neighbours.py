"""Nearest training images, against a search written out here."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cspipe.evaluation import neighbours
from cspipe.evaluation.neighbours import Neighbours, nearest, nearest_ratio
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


def test_the_ratio_tells_copies_from_new_images() -> None:
    train, held_out = blobs(200, 0), find(blobs(40, 1), blobs(200, 0))
    assert nearest_ratio(find(train[:40], train), held_out) == 0
    assert nearest_ratio(find(blobs(40, 2), train), held_out) == pytest.approx(1, abs=0.2)
    assert nearest_ratio(held_out, find(train[:40], train)) is None
