"""One half of the picture is missing: left, right, top or bottom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspipe.data.masks._band import band


def draw(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Half of the rows or columns, rounded down, at a random side: bool (size, size)."""
    return band(size, size // 2, rng)
