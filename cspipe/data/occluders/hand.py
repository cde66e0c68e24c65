"""A hand before the face: a palm and five fingers, with a forearm that comes in from the edge."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cspipe.data.occluders._sketch import Point, Sketch, darker, oval, skin

FINGERS = ((-0.45, 0.17), (-0.15, 0.2), (0.12, 0.19), (0.4, 0.15))
"""Forefinger to little finger: direction from the palm's axis in radians, and length."""
THUMB = (-1.15, 0.13)


def draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A left or a right hand, palm at the lower or outer part of the face, from any side but above: RGBA."""
    sketch = Sketch(size, rng)
    tone = skin(rng)
    line = darker(tone, 0.72)
    palm = (rng.uniform(0.25, 0.75), rng.uniform(0.5, 0.85))
    wrist = rng.uniform(-0.5, math.pi + 0.5)  # 0: to the right, pi / 2: downwards
    axis, mirror, scale = wrist + math.pi, rng.choice((-1, 1)), rng.uniform(0.85, 1.25)

    def away(angle: float, length: float, start: Point = palm) -> Point:
        """The point that far from another, in that direction (radians)."""
        return start[0] + scale * length * math.cos(angle), start[1] + scale * length * math.sin(angle)

    sketch.line([palm, away(wrist, 1.2)], scale * 0.11, line)
    sketch.line([palm, away(wrist, 1.2)], scale * 0.1, tone)
    for turn, length in (*FINGERS, THUMB):
        angle = axis + mirror * (turn + rng.uniform(-0.07, 0.07))
        root = away(angle, 0.06)
        tip = away(axis + mirror * turn * rng.uniform(0.5, 0.9), length, root)
        for width, colour in ((0.056, line), (0.044, tone)):
            sketch.line([root, tip], scale * width, colour)
    sketch.polygon(oval(palm, scale * 0.19, scale * 0.19, 2.4), tone)
    return sketch.layer()
