"""Only a square in the middle is known, and the picture has to be expanded from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KNOWN = (1 / 4, 1 / 3, 1 / 2)
"""Sides of the known square, as shares of the picture's; one is drawn."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Everything but a central square: bool (size, size)."""
    side = round(size * rng.choice(KNOWN))
    start = (size - side) // 2
    hole = np.ones((size, size), np.bool_)
    hole[start : start + side, start : start + side] = False
    return hole
