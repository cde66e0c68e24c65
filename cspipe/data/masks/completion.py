"""A band of random width is missing at one side, and the picture has to be completed there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspipe.data.masks._band import band

LEAST, MOST = 0.2, 0.8
"""Share of the picture."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A share of the rows or columns, uniform in LEAST..MOST, at a random side: bool (size, size)."""
    return band(size, round(size * rng.uniform(LEAST, MOST)), rng)
