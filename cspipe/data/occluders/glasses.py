"""Spectacles and sunglasses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cspipe.data.occluders._sketch import Colour, Sketch, any_colour, curve, oval

EYES, EYE_LINE = (0.37, 0.63), 0.46
SUNGLASSES = 0.5
"""Share of glasses whose lenses hide the eyes."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two lenses in a frame with bridge and temples: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    frame = any_colour(rng) if rng.random() < 0.5 else (25, 20, 20, 255)
    width, height = rng.uniform(0.19, 0.24), rng.uniform(0.12, 0.19)
    thickness, power = rng.uniform(0.012, 0.03), rng.uniform(2, 5)
    bridge = EYE_LINE - height * rng.uniform(0, 0.3)
    lens = _lens(rng)
    for eye, side in zip(EYES, (-1, 1), strict=True):
        outline = oval((eye, EYE_LINE), width, height, power)
        sketch.polygon(outline, lens)
        sketch.line([*outline, *outline[:2]], thickness, frame)
        hinge = eye + side * width / 2
        sketch.line([(hinge, bridge), (0.5 + side * 0.39, bridge - 0.01)], thickness, frame)
    inner, outer = (eye - side * width / 2 for eye, side in zip(EYES, (-1, 1), strict=True))
    sketch.line(curve((inner, bridge), (0.5, bridge - 0.02), (outer, bridge)), thickness, frame)
    return sketch.layer()


def _lens(rng: np.random.Generator) -> Colour:
    """A dark or a faint tint."""
    if rng.random() < SUNGLASSES:
        red, green, blue = (int(value) for value in rng.integers(0, 70, 3))
        return red, green, blue, int(rng.integers(215, 256))
    return 235, 245, 255, int(rng.integers(30, 90))
