"""A rectangle is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A rectangle anywhere, each side a quarter to a half of the picture's: bool (size, size)."""
    height, width = rng.integers(size // 4, size // 2, 2, endpoint=True)
    top, left = rng.integers(size - height, endpoint=True), rng.integers(size - width, endpoint=True)
    hole = np.zeros((size, size), np.bool_)
    hole[top : top + height, left : left + width] = True
    return hole
