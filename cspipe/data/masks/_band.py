"""Holes that reach in from one side of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def band(size: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A hole of `width` whole rows or columns at a random side of a picture: bool (size, size)."""
    hole = np.zeros((size, size), np.bool_)
    hole[:width] = True
    turned: NDArray[np.bool_] = np.rot90(hole, int(rng.integers(4))).copy()
    return turned
