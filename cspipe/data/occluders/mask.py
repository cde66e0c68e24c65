"""Face masks over nose, mouth and chin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspipe.data.occluders._sketch import Sketch, any_colour, curve, darker

USUAL = ((160, 205, 235, 255), (240, 243, 245, 255), (35, 35, 40, 255))
"""Surgical blue, white, black."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A piece of cloth with pleats, held by ribbons: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    cloth = any_colour(rng) if rng.random() < 0.4 else USUAL[rng.integers(len(USUAL))]
    nose, chin = rng.uniform(0.52, 0.57), rng.uniform(0.88, 0.95)
    upper, lower = nose + rng.uniform(0.02, 0.07), chin - rng.uniform(0.08, 0.14)
    cheek, jaw = rng.uniform(0.26, 0.3), rng.uniform(0.2, 0.25)
    ribbon = rng.uniform(0.008, 0.016)
    for side in (-1, 1):
        sketch.line([(0.5 + side * cheek, upper), (0.5 + side * 0.4, 0.47)], ribbon, darker(cloth, 0.9))
        sketch.line([(0.5 + side * jaw, lower), (0.5 + side * 0.4, 0.58)], ribbon, darker(cloth, 0.9))
    top = curve((0.5 - cheek, upper), (0.5, nose), (0.5 + cheek, upper))
    bottom = curve((0.5 + jaw, lower), (0.5, chin), (0.5 - jaw, lower))
    sketch.polygon([*top, *bottom], cloth)
    for share in np.linspace(0, 1, rng.integers(2, 6) + 2):
        middle, height = nose + share * (chin - nose), upper + share * (lower - upper)
        half = cheek + share * (jaw - cheek)
        sketch.line(curve((0.5 - half, height), (0.5, middle), (0.5 + half, height)), 0.006, darker(cloth, 0.8))
    return sketch.layer()
