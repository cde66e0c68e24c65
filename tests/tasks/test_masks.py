"""Every family of masks: seeded, of its published size, and never empty or the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cspipe.tasks.inpaint import MASKS, SMALLEST

FAMILIES = sorted(MASKS)
SHARES = {
    "half": (0.5, 0.5),
    "completion": (0.2, 0.8),
    "expand": (3 / 4, 15 / 16),
    "box": (1 / 16, 1 / 4),
    "thick": (0, 0.5),
    "medium": (0, 0.5),
    "thin": (0, 0.5),
}
"""Least and greatest share of the image."""

Hole = NDArray[np.bool_]


def draw(name: str, size: int, seed: int) -> Hole:
    return MASKS[name](size, np.random.default_rng(seed))


def many(name: str, size: int, count: int = 200) -> Hole:
    return np.stack([draw(name, size, seed) for seed in range(count)])


@pytest.mark.parametrize("name", FAMILIES)
@given(size=st.integers(SMALLEST, 256), seed=st.integers(0, 2**63))
def test_a_seed_has_one_hole_that_is_neither_empty_nor_all(name: str, size: int, seed: int) -> None:
    hole = draw(name, size, seed)
    assert hole.shape == (size, size)
    assert hole.dtype == np.bool_
    assert 0 < hole.sum() < hole.size
    np.testing.assert_array_equal(hole, draw(name, size, seed))


@pytest.mark.parametrize("name", FAMILIES)
@given(size=st.integers(16, 256), seed=st.integers(0, 2**63))
def test_the_hole_has_its_share_of_the_image(name: str, size: int, seed: int) -> None:
    least, most = SHARES[name]
    rounding = 2 / size  # a row more or less at either end
    assert least - rounding <= draw(name, size, seed).mean() <= most + rounding


@pytest.mark.parametrize("name", FAMILIES)
def test_seeds_differ_and_reach_all_of_the_range(name: str) -> None:
    holes = many(name, 64)
    assert len(np.unique(holes.reshape(len(holes), -1), axis=0)) > {"half": 3, "expand": 2}.get(name, 50)
    least, most = SHARES[name]
    shares = holes.mean((1, 2))
    assert np.ptp(shares) >= 0.8 * (most - least)


def test_expand_leaves_a_square_in_the_middle() -> None:
    sides = set()
    for hole in many("expand", 48, 40):
        rows, columns = (np.flatnonzero(~hole.all(axis)) for axis in (1, 0))
        np.testing.assert_array_equal(rows, columns)
        assert rows[0] == 48 - 1 - rows[-1]
        assert (~hole).sum() == len(rows) ** 2
        sides.add(len(rows))
    assert sides == {12, 16, 24}


def test_strokes_are_as_thick_as_they_are_called() -> None:
    """The widest disc that fits into the hole, by erosion; LaMa's widths are in 256ths."""

    def radius(hole: Hole) -> int:
        steps = 0
        while hole.any():
            padded = np.pad(hole, 1)
            hole = hole & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
            steps += 1
        return steps

    thin, medium, thick = (
        np.median([radius(hole) for hole in many(name, 256, 30)]) for name in ("thin", "medium", "thick")
    )
    assert 5 < thin < 20 < medium < 40 < thick
