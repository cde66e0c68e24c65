"""A drawing in front of a face, in units of the picture's side, averaged down to its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int, int]
"""RGB and alpha, 0..255."""

LEAST_SIDE = 256
"""Pixels that a sketch is drawn on at least, and never fewer than 2 x 2 for one of the picture."""
SHIFT, SCALE, TURN = 0.02, 0.06, math.radians(5)
"""Deviations of a pose: each drawn uniformly from both sides of none."""
CENTRE = (0.5, 0.55)
"""Where a pose turns and scales about: the middle of an aligned face."""
SKINS = ((255, 224, 196), (240, 194, 156), (214, 158, 115), (171, 112, 72), (122, 76, 46), (74, 46, 31))


class Sketch:
    """Shapes painted one over the other, each replacing what is below it, all turned and shifted by one random pose.

    Points are (x, y), (0, 0) the picture's top left corner and (1, 1) its bottom right one; lengths are shares of its
    side.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.factor = max(2, -(-LEAST_SIDE // size))
        self.side = size * self.factor
        self.picture = Image.new("RGBA", (self.side, self.side), (0, 0, 0, 0))
        self.canvas = ImageDraw.Draw(self.picture)
        self.shift = rng.uniform(-SHIFT, SHIFT, 2)
        self.scale = 1 + rng.uniform(-SCALE, SCALE)
        self.turn = rng.uniform(-TURN, TURN)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """A filled outline."""
        self.canvas.polygon(self._place(points), colour)

    def line(self, points: Iterable[Point], width: float, colour: Colour) -> None:
        """A chain of segments with round ends and joints."""
        placed, pixels = self._place(points), max(1, width * self.scale * self.side)
        self.canvas.line(placed, colour, round(pixels), joint="curve")
        for end in (placed[0], placed[-1]):
            self.canvas.circle(end, (pixels - 1) / 2, colour)

    def layer(self) -> NDArray[np.uint8]:
        """The sketch at the picture's size: uint8 (size, size, 4), RGBA with straight alpha."""
        return np.asarray(self.picture.reduce(self.factor))

    def _place(self, points: Iterable[Point]) -> list[Point]:
        """Points in the pose, in pixels of the drawing."""
        cos, sin = (self.scale * function(self.turn) for function in (math.cos, math.sin))
        centred = [(x - CENTRE[0], y - CENTRE[1]) for x, y in points]
        turned = [(cos * x - sin * y, sin * x + cos * y) for x, y in centred]
        at_x, at_y = CENTRE + self.shift
        return [(float(x + at_x) * self.side, float(y + at_y) * self.side) for x, y in turned]


def oval(centre: Point, width: float, height: float, power: float = 2.0) -> list[Point]:
    """The outline of a superellipse: power 2 is an ellipse, larger ones come near a rectangle."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = np.cos(angles), np.sin(angles)
    xs = centre[0] + width / 2 * np.sign(x) * np.abs(x) ** (2 / power)
    ys = centre[1] + height / 2 * np.sign(y) * np.abs(y) ** (2 / power)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def curve(start: Point, through: Point, end: Point) -> list[Point]:
    """A parabola by way of its middle point."""
    t = np.linspace(0, 1, 17)[:, None]
    a, b, c = (np.array(point) for point in (start, through, end))
    return [(float(x), float(y)) for x, y in (1 - t) * (1 - 2 * t) * a + 4 * t * (1 - t) * b + t * (2 * t - 1) * c]


def any_colour(rng: np.random.Generator, alpha: int = 255) -> Colour:
    """Any colour, all alike likely."""
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue, alpha


def darker(colour: Sequence[int], share: float) -> Colour:
    """An opaque colour with this share of its light; above 1: lighter."""
    red, green, blue = (min(255, round(value * share)) for value in colour[:3])
    return red, green, blue, 255


def skin(rng: np.random.Generator) -> Colour:
    """A skin tone, somewhere between two of SKINS."""
    place = rng.uniform(0, len(SKINS) - 1)
    near, share = int(place), place % 1
    mixed = np.array(SKINS[near]) * (1 - share) + np.array(SKINS[near + 1]) * share
    return darker([int(value) for value in mixed], 1)
