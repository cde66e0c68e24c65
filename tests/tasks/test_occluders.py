"""Things in front of faces: seeded, in their place, and the rest of the image untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cspipe.tasks.deocclude import OCCLUDERS, Sketch, put_in_front

SHARES = {"glasses": (0.01, 0.15), "mask": (0.1, 0.27), "hand": (0.03, 0.25), "scarf": (0.15, 0.5), "text": (0, 0.3)}
"""Least and greatest share of the image that is more than half hidden, at 64 pixels."""


def layer(name: str, size: int, seed: int) -> NDArray[np.uint8]:
    return OCCLUDERS[name](size, np.random.default_rng(seed))


def test_the_occluders_are_those_of_faces() -> None:
    assert set(OCCLUDERS) == set(SHARES)


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


def test_hands_hide_the_face_rather_than_the_corners() -> None:
    alphas = np.mean([layer("hand", 64, seed)[..., 3] > 127 for seed in range(100)], 0)
    assert alphas[28:56, 16:48].mean() > 3 * alphas[:16].mean()


@pytest.mark.parametrize("name", sorted(OCCLUDERS))
def test_edges_are_antialiased_and_sizes_agree(name: str) -> None:
    small, large = layer(name, 64, 5), layer(name, 256, 5)
    assert len(np.unique(small[..., 3])) > 10
    reduced = large[..., 3].reshape(64, 4, 64, 4).mean((1, 3))
    assert np.abs(reduced - small[..., 3]).mean() < 4, "the same drawing at another size"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(OCCLUDERS))
def test_pixels_that_are_not_hidden_stay(name: str, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 32, 32), np.uint8)
    before = pixels.copy()
    occluded = put_in_front(pixels, layer(name, 32, 3))
    clear = layer(name, 32, 3)[..., 3] == 0
    assert (occluded != pixels).any()
    np.testing.assert_array_equal(occluded[:, clear], pixels[:, clear])
    np.testing.assert_array_equal(pixels, before)


def test_layers_are_composed_by_their_alpha() -> None:
    front = np.zeros((1, 3, 4), np.uint8)
    front[0, :, :3] = (200, 100, 0)
    front[0, :, 3] = (0, 51, 255)
    pixels = np.full((3, 1, 3), 50, np.uint8)
    np.testing.assert_array_equal(put_in_front(pixels, front)[:, 0], [[50, 80, 200], [50, 60, 100], [50, 40, 0]])
    grey = round(0.299 * 200 + 0.587 * 100)
    np.testing.assert_array_equal(put_in_front(pixels[:1], front)[0, 0], [50, round(0.2 * grey + 40), grey])


def test_a_colour_does_not_darken_where_it_fades() -> None:
    """Averaging straight colours would mix in the black of what is clear."""
    sketch = Sketch(16, np.random.default_rng(0))
    sketch.line([(0.2, 0.2), (0.8, 0.75)], 0.1, (250, 120, 40, 255))
    drawn = sketch.layer()
    shown = drawn[drawn[..., 3] > 20][:, :3].astype(int)
    assert np.abs(shown - (250, 120, 40)).max() <= 8
