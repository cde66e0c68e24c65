"""Holes of brush strokes and boxes, after the generators of LaMa (Suvorov et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

UNIT = 1 / 256
"""Lengths are in 256ths of the picture's side: LaMa states them for pictures of 256 pixels."""
MOST = 0.5
"""Share of the picture; a larger hole is thrown away and another drawn."""
MOST_SEGMENTS = 5
"""Segments of a stroke: 1..5."""
TURN = 4.0
"""Radians: the direction of a segment is drawn from 0..TURN, and mirrored for every second stroke."""


@dataclass(frozen=True)
class Boxes:
    """Rectangles in place of strokes; pairs are the least and the most."""

    share: float
    """Of the masks: this many are boxes."""
    number: tuple[int, int]
    side: tuple[float, float]
    margin: float
    """Distance from the picture's edge."""


@dataclass(frozen=True)
class Brush:
    """How a family is drawn; pairs are the least and the most."""

    strokes: tuple[int, int]
    width: tuple[float, float]
    length: tuple[float, float]
    """Of a segment."""
    boxes: Boxes | None = None

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """A hole of at most MOST of the picture: bool (size, size). Lines are one pixel wide at least."""
        while True:
            picture = Image.new("1", (size, size))
            self._paint(ImageDraw.Draw(picture), size, rng)
            hole = np.array(picture)
            if 0 < hole.mean() <= MOST:
                return hole

    def _paint(self, canvas: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
        if self.boxes is not None and rng.random() < self.boxes.share:
            for _ in range(rng.integers(*self.boxes.number, endpoint=True)):
                _box(canvas, self.boxes, size, rng)
        else:
            for number in range(rng.integers(*self.strokes, endpoint=True)):
                self._stroke(canvas, size, rng, -1 if number % 2 else 1)

    def _stroke(self, canvas: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, mirror: int) -> None:
        """A chain of segments with round ends, each of its own width."""
        x, y = rng.uniform(0, size, 2)
        for _ in range(rng.integers(1, MOST_SEGMENTS, endpoint=True)):
            angle = mirror * rng.uniform(0, TURN)
            length = rng.uniform(*self.length) * UNIT * size
            width = max(1, rng.uniform(*self.width) * UNIT * size)
            start = (x, y)
            x = min(max(x + length * math.sin(angle), 0), size - 1)
            y = min(max(y + length * math.cos(angle), 0), size - 1)
            canvas.line([start, (x, y)], 1, round(width))
            for end in (start, (x, y)):
                canvas.circle(end, (width - 1) / 2, 1)


def _box(canvas: ImageDraw.ImageDraw, boxes: Boxes, size: int, rng: np.random.Generator) -> None:
    height, width = (max(1, round(rng.uniform(*boxes.side) * UNIT * size)) for _ in range(2))
    margin = round(boxes.margin * UNIT * size)
    top, left = (int(rng.integers(margin, size - margin - side, endpoint=True)) for side in (height, width))
    canvas.rectangle((left, top, left + width - 1, top + height - 1), 1)
