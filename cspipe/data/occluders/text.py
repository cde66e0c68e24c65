"""Letters over the picture, as of captions and watermarks."""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from cspipe.data.occluders._sketch import Sketch, any_colour

LETTERS = np.array(list(string.ascii_letters + string.digits))
HEIGHT = (0.12, 0.22)
"""Least and largest height of letters, as shares of the picture's side."""


def draw(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One to three lines of random letters and digits somewhere over the face, with an outline: RGBA."""
    sketch = Sketch(size, rng)
    fill, outline = any_colour(rng, int(rng.integers(190, 256))), any_colour(rng)
    height = rng.uniform(*HEIGHT) * sketch.side
    font = ImageFont.load_default(height)
    lines = ["".join(rng.choice(LETTERS, rng.integers(4, 10))) for _ in range(rng.integers(1, 3, endpoint=True))]
    middle = rng.uniform(0.3, 0.7, 2) * sketch.side
    stroke = round(height * rng.choice((0.0, 0.06)))
    place, text = (float(middle[0]), float(middle[1])), "\n".join(lines)
    sketch.canvas.multiline_text(place, text, fill, font, "mm", stroke_width=stroke, stroke_fill=outline)
    turn = float(rng.uniform(-20, 20))
    sketch.picture = sketch.picture.rotate(turn, center=place)
    return sketch.layer()
