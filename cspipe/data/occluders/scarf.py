"""A scarf wound around the lower face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspipe.data.occluders._sketch import Sketch, any_colour, curve, darker

FOLDS = 6
"""Most lines that show how the cloth falls."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cloth from edge to edge, from the nose or the mouth down, plain or striped, with folds: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    cloth, stripe = any_colour(rng), any_colour(rng)
    top, sag = rng.uniform(0.57, 0.72), rng.uniform(0.02, 0.1)
    stripes = rng.integers(3, 9) if rng.random() < 0.6 else 0

    def across(height: float) -> list[tuple[float, float]]:
        """A line from side to side, sagging around a height."""
        return curve((-0.2, height - sag), (0.5, height + sag), (1.2, height - sag))

    sketch.polygon([*across(top), (1.2, 1.3), (-0.2, 1.3)], cloth)
    for number in range(stripes):
        sketch.line(across(top + (number + 0.7) * 0.5 / stripes), rng.uniform(0.15, 0.25) / stripes, stripe)
    for height in top + rng.uniform(0.02, 0.4, rng.integers(2, FOLDS, endpoint=True)):
        sketch.line(across(height), 0.008, darker(cloth, 0.7))
    sketch.line(across(top), 0.01, darker(cloth, 0.8))
    return sketch.layer()
