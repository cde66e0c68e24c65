"""Inpainting: the net sees an image with a hole, and where the hole is.

MASKS has the families of holes; `condition.masks` in params.yaml lists their names. To add one, add a function
`(size, rng) -> hole`: bool (size, size), True where the image is to be filled in. Every random number comes from `rng`,
so that a seed sets the hole; lengths scale with size. A hole is never empty and never the whole image, from SMALLEST
pixels on.

half, completion and expand are families of the NTIRE 2022 inpainting challenge (half also of RePaint, Lugmayr et al.
2022); thick, medium and thin follow the generators of LaMa (Suvorov et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cspipe.data.conditions import DrawnConditions, masked
from cspipe.data.user_masks import load_masks
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.data.settings import ConditionSettings
    from cspipe.data.shards import Shards

Hole = NDArray[np.bool_]
Draw = Callable[[int, np.random.Generator], Hole]

USER_MASKS = "own"
"""Name of the family of the user's masks in condition.mask_folder."""
SMALLEST = 4
"""Height and width, in pixels, of the smallest image for which every family has a hole."""
COMPLETION = (0.2, 0.8)
"""Least and largest share of the image that `completion` leaves out."""
EXPAND_FROM = (1 / 4, 1 / 3, 1 / 2)
"""Sides of the square that `expand` shows, as shares of the image's; one is drawn."""
UNIT = 1 / 256
"""Lengths of strokes are in 256ths of the image's side: LaMa states them for images of 256 pixels."""
MOST = 0.5
"""Largest share of the image that a hole of strokes takes; a larger hole is discarded and another drawn."""
MOST_SEGMENTS = 5
"""Largest number of segments of a stroke; the least is 1."""
TURN = 4.0
"""Largest direction of a segment, in radians: drawn from 0..TURN, and mirrored for every second stroke."""


def condition_channels(image_channels: int) -> int:
    """Return the channels of the condition: those of the image, which is GREY in its hole, and the hole."""
    return image_channels + 1


def open_conditions(settings: ConditionSettings, images: Shards, prepared: Path) -> DrawnConditions[Hole]:
    """Return conditions: images with holes of the families in params.yaml and of the user's masks in folder `prepared`.

    Raises UserError if there is no family, or if the images are too small.
    """
    size = images.shape[-1]
    if size < SMALLEST:
        raise UserError(f"params.yaml: data.size {size} is too small for a hole; inpainting needs {SMALLEST} or more")
    families: dict[str, Draw] = {name: MASKS[name] for name in settings.masks}
    if settings.mask_folder is not None:
        families[USER_MASKS] = load_masks(prepared, size).draw
    if not families:
        raise UserError("params.yaml: condition.masks is empty and condition.mask_folder null; name masks for inpaint")
    return DrawnConditions(families, _with_hole)


def _with_hole(pixels: NDArray[np.uint8], hole: Hole) -> NDArray[np.uint8]:
    """Return the condition (C + 1, H, W) of an image (C, H, W) with a hole (H, W)."""
    condition: NDArray[np.uint8] = masked(pixels[None], hole[None, None])[0]
    return condition


def half(size: int, rng: np.random.Generator) -> Hole:
    """Return a hole over half of the rows or columns, rounded down, at a random side."""
    return _band(size, size // 2, rng)


def completion(size: int, rng: np.random.Generator) -> Hole:
    """Return a hole over a share of the rows or columns, uniform in COMPLETION, at a random side."""
    return _band(size, round(size * rng.uniform(*COMPLETION)), rng)


def _band(size: int, width: int, rng: np.random.Generator) -> Hole:
    hole = np.zeros((size, size), np.bool_)
    hole[:width] = True
    return np.rot90(hole, int(rng.integers(4))).copy()


def expand(size: int, rng: np.random.Generator) -> Hole:
    """Return a hole over everything but a central square."""
    side = round(size * rng.choice(EXPAND_FROM))
    start = (size - side) // 2
    hole = np.ones((size, size), np.bool_)
    hole[start : start + side, start : start + side] = False
    return hole


def box(size: int, rng: np.random.Generator) -> Hole:
    """Return a rectangular hole anywhere, each side a quarter to a half of the image's."""
    height, width = rng.integers(size // 4, size // 2, 2, endpoint=True)
    top, left = rng.integers(size - height, endpoint=True), rng.integers(size - width, endpoint=True)
    hole = np.zeros((size, size), np.bool_)
    hole[top : top + height, left : left + width] = True
    return hole


@dataclass(frozen=True)
class Boxes:
    """Rectangles in place of strokes; pairs are the least and the most, lengths in units of UNIT."""

    number: tuple[int, int]
    side: tuple[float, float]
    margin: float
    """Least distance from the image's edge."""
    share: float = 3 / 13
    """Share of the holes that are boxes; LaMa has boxes to strokes in the ratio 0.3 to 1."""

    def paint(self, canvas: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
        """Draw one rectangle."""
        height, width = (max(1, round(rng.uniform(*self.side) * UNIT * size)) for _ in range(2))
        margin = round(self.margin * UNIT * size)
        top, left = (int(rng.integers(margin, size - margin - side, endpoint=True)) for side in (height, width))
        canvas.rectangle((left, top, left + width - 1, top + height - 1), 1)


@dataclass(frozen=True)
class Brush:
    """Holes of brush strokes; pairs are the least and the most, lengths in units of UNIT."""

    strokes: tuple[int, int]
    width: tuple[float, float]
    length: tuple[float, float]
    """Length of a segment."""
    boxes: Boxes | None = None

    def __call__(self, size: int, rng: np.random.Generator) -> Hole:
        """Return a hole of at most MOST of the image. Lines are at least one pixel wide."""
        while True:
            image = Image.new("1", (size, size))
            self._paint(ImageDraw.Draw(image), size, rng)
            hole = np.array(image)
            if 0 < hole.mean() <= MOST:
                return hole

    def _paint(self, canvas: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
        if self.boxes is not None and rng.random() < self.boxes.share:
            for _ in range(rng.integers(*self.boxes.number, endpoint=True)):
                self.boxes.paint(canvas, size, rng)
        else:
            for number in range(rng.integers(*self.strokes, endpoint=True)):
                self._stroke(canvas, size, rng, -1 if number % 2 else 1)

    def _stroke(self, canvas: ImageDraw.ImageDraw, size: int, rng: np.random.Generator, mirror: int) -> None:
        """Draw a chain of segments with round ends, each of another width."""
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


MASKS: dict[str, Draw] = {
    "box": box,
    "completion": completion,
    "expand": expand,
    "half": half,
    "medium": Brush((4, 5), width=(5, 55), length=(10, 110), boxes=Boxes((1, 5), side=(10, 50), margin=0)),
    "thick": Brush((1, 5), width=(5, 105), length=(10, 210), boxes=Boxes((1, 3), side=(30, 150), margin=10)),
    "thin": Brush((4, 50), width=(5, 15), length=(10, 50)),
}
