"""Things in front of faces: seeded, in their place, and the rest of the image untouched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cspipe.tasks.deocclude import OCCLUDERS, put_in_front

SHARES = {"glasses": (0.01, 0.15), "mask": (0.1, 0.27), "hand": (0.03, 0.25), "scarf": (0.15, 0.5), "text": (0, 0.3)}
"""Least and greatest share of the image that is more than half hidden, at 64 pixels."""


def layer(name: str, size: int, seed: int) -> NDArray[np.uint8]:
    return OCCLUDERS[name](size, np.random.default_rng(seed))


@pytest.mark.parametrize("name", sorted(OCCLUDERS))
@given(size=st.integers(16, 256), seed=st.integers(0, 2**63))
def test_a_seed_has_one_occluder_at_every_size(name: str, size: int, seed: int) -> None:
    drawn = layer(name, size, seed)
    assert drawn.shape == (size, size, 4)
    assert drawn.dtype == np.uint8
    assert drawn[..., 3].max() > 15, "it shows"
    assert drawn[..., 3].min() == 0, "it hides a part"
    np.testing.assert_array_equal(drawn, layer(name, size, seed))


@pytest.mark.parametrize("name", sorted(OCCLUDERS))
def test_occluders_vary_and_are_neither_tiny_nor_huge(name: str) -> None:
    layers = np.stack([layer(name, 64, seed) for seed in range(100)])
    assert len(np.unique(layers.reshape(100, -1), axis=0)) == 100
    least, most = SHARES[name]
    shares = (layers[..., 3] > 127).mean((1, 2))
    assert least <= shares.min()
    assert shares.max() <= most
    opaque = [drawn[drawn[..., 3] > 180][:, :3] for drawn in layers]
    assert len({tuple(np.median(colours, 0)) for colours in opaque if len(colours)}) > 30, "of many colours"


@pytest.mark.parametrize(("name", "centre"), [("glasses", (0.46, 0.5)), ("mask", (0.73, 0.5)), ("scarf", (0.85, 0.5))])
def test_occluders_lie_where_an_aligned_face_has_what_they_hide(name: str, centre: tuple[float, float]) -> None:
    alphas = np.mean([layer(name, 64, seed)[..., 3] for seed in range(60)], 0)
    places = (np.arange(64) + 0.5) / 64
    found = [float((alphas.sum(1 - axis) * places).sum() / alphas.sum()) for axis in (0, 1)]
    assert found == pytest.approx(centre, abs=0.04)


def test_layers_are_composed_by_their_alpha() -> None:
    front = np.zeros((1, 3, 4), np.uint8)
    front[0, :, :3] = (200, 100, 0)
    front[0, :, 3] = (0, 51, 255)
    pixels = np.full((3, 1, 3), 50, np.uint8)
    np.testing.assert_array_equal(put_in_front(pixels, front)[:, 0], [[50, 80, 200], [50, 60, 100], [50, 40, 0]])
    grey = round(0.299 * 200 + 0.587 * 100)
    np.testing.assert_array_equal(put_in_front(pixels[:1], front)[0, 0], [50, round(0.2 * grey + 40), grey])
