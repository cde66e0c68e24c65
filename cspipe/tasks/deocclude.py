"""De-occlusion: the net sees an image with something in front of the face.

OCCLUDERS has the kinds of occluder; `condition.occluders` in params.yaml lists their names; without any, the pairs of
the data are used. To add one, add a function `(size, rng) -> layer`: uint8 (size, size, 4), RGBA with straight alpha.
Every random number comes from `rng`, so that a seed sets the occluder. Faces are upright and aligned as those of FFHQ
and CelebA-HQ: eyes at about 46 % of the height and 37 % and 63 % of the width, mouth at 70 %, chin at 90 %.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cspipe.data.conditions import Conditions, DrawnConditions
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.data.settings import ConditionSettings
    from cspipe.data.shards import Shards

Layer = NDArray[np.uint8]
Paint = Callable[[int, np.random.Generator], Layer]
Point = tuple[float, float]
Colour = tuple[int, int, int, int]
"""RGB and alpha, 0..255."""

PAIRS = "pairs"
"""Name of the family of conditions that are pairs of the data."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R 601)."""
LEAST_SIDE = 256
"""Least side of a sketch, in pixels; a sketch also has at least 2 x 2 pixels for one of the image."""
SHIFT, SCALE, TURN = 0.02, 0.06, math.radians(5)
"""Largest deviations of a pose: shift in shares of the side, relative scale, turn in radians; each drawn uniformly."""
CENTRE = (0.5, 0.55)
"""Point (x, y) that a pose turns and scales about, in shares of the side: the middle of an aligned face."""
SKINS = ((255, 224, 196), (240, 194, 156), (214, 158, 115), (171, 112, 72), (122, 76, 46), (74, 46, 31))
BLACK = (25, 20, 20, 255)
EYES, EYE_LINE = (0.37, 0.63), 0.46
SUNGLASSES = 0.5
"""Share of glasses whose lenses hide the eyes."""
FINGERS = ((-0.45, 0.17), (-0.15, 0.2), (0.12, 0.19), (0.4, 0.15))
"""Forefinger to little finger: direction from the palm's axis in radians, and length."""
THUMB = (-1.15, 0.13)
CLOTHS = ((160, 205, 235, 255), (240, 243, 245, 255), (35, 35, 40, 255))
"""Colours of face masks: surgical blue, white, black."""
FOLDS = 6
"""Largest number of lines that show the folds of a scarf."""
LETTERS = np.array(list(string.ascii_letters + string.digits))
LETTER_HEIGHT = (0.12, 0.22)
"""Least and largest height of letters, as shares of the image's side."""


def condition_channels(image_channels: int) -> int:
    """Return the channels of the condition, which is the occluded image."""
    return image_channels


def open_conditions(settings: ConditionSettings, images: Shards, prepared: Path) -> Conditions:
    """Return conditions: images behind one of the occluders that params.yaml names; without any, the pairs of the data.

    Raises UserError if there are neither occluders nor pairs.
    """
    if settings.occluders:
        return DrawnConditions({name: OCCLUDERS[name] for name in settings.occluders}, put_in_front)
    if images.paired is None:
        raise UserError(
            "params.yaml: condition.occluders is empty, and the prepared images have no pairs; name occluders, or "
            "prepare pairs (data.avatars.paired)"
        )
    return Pairs(images.paired)


@dataclass(frozen=True)
class Pairs:
    """Conditions that are the data's second, occluded image of each scene. Seeds change nothing."""

    paired: Shards
    families: Sequence[str] = (PAIRS,)

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Return occluded images (N, C, H, W) of the places `numbers`; the other arguments are not read."""
        return self.paired.gather(numbers)


def put_in_front(pixels: NDArray[np.uint8], layer: Layer) -> NDArray[np.uint8]:
    """Blend a layer (H, W, 4) over an image (C, H, W), C 1 or 3, on the stored (gamma-coded) values."""
    colour, alpha = layer[..., :3].astype(np.float64), layer[..., 3] / 255
    front = (colour @ LUMA)[None] if len(pixels) == 1 else colour.transpose(2, 0, 1)
    return np.rint(alpha * front + (1 - alpha) * pixels).astype(np.uint8)


class Sketch:
    """Shapes painted one over the other, each replacing what is below it, all in one random pose (shift, scale, turn).

    Points are (x, y), (0, 0) the image's top left corner and (1, 1) its bottom right one; lengths are shares of its
    side.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.factor = max(2, -(-LEAST_SIDE // size))
        self.side = size * self.factor
        self.image = Image.new("RGBA", (self.side, self.side), (0, 0, 0, 0))
        self.canvas = ImageDraw.Draw(self.image)
        self.shift = rng.uniform(-SHIFT, SHIFT, 2)
        self.scale = 1 + rng.uniform(-SCALE, SCALE)
        self.turn = rng.uniform(-TURN, TURN)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Draw a filled polygon."""
        self.canvas.polygon(self._place(points), colour)

    def line(self, points: Iterable[Point], width: float, colour: Colour) -> None:
        """Draw a chain of segments with round ends and joints."""
        placed, pixels = self._place(points), max(1, width * self.scale * self.side)
        self.canvas.line(placed, colour, round(pixels), joint="curve")
        for end in (placed[0], placed[-1]):
            self.canvas.circle(end, (pixels - 1) / 2, colour)

    def layer(self) -> NDArray[np.uint8]:
        """Return the sketch at the image's size: uint8 (size, size, 4), RGBA with straight alpha."""
        return np.asarray(self.image.reduce(self.factor))

    def _place(self, points: Iterable[Point]) -> list[Point]:
        """Return the points in the pose, in pixels of the drawing."""
        cos, sin = (self.scale * function(self.turn) for function in (math.cos, math.sin))
        centred = [(x - CENTRE[0], y - CENTRE[1]) for x, y in points]
        turned = [(cos * x - sin * y, sin * x + cos * y) for x, y in centred]
        at_x, at_y = CENTRE + self.shift
        return [(float(x + at_x) * self.side, float(y + at_y) * self.side) for x, y in turned]


def oval(centre: Point, width: float, height: float, power: float = 2.0) -> list[Point]:
    """Return the outline of a superellipse: power 2 is an ellipse, larger powers come near a rectangle."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = np.cos(angles), np.sin(angles)
    xs = centre[0] + width / 2 * np.sign(x) * np.abs(x) ** (2 / power)
    ys = centre[1] + height / 2 * np.sign(y) * np.abs(y) ** (2 / power)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def curve(start: Point, through: Point, end: Point) -> list[Point]:
    """Return points of a parabola from `start` to `end` whose middle point is `through`."""
    t = np.linspace(0, 1, 17)[:, None]
    a, b, c = (np.array(point) for point in (start, through, end))
    return [(float(x), float(y)) for x, y in (1 - t) * (1 - 2 * t) * a + 4 * t * (1 - t) * b + t * (2 * t - 1) * c]


def any_colour(rng: np.random.Generator, alpha: int = 255) -> Colour:
    """Draw a colour; all are equally likely."""
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue, alpha


def darker(colour: Sequence[int], share: float) -> Colour:
    """Return the opaque colour with this share of the light of `colour`; above 1: lighter."""
    red, green, blue = (min(255, round(value * share)) for value in colour[:3])
    return red, green, blue, 255


def skin(rng: np.random.Generator) -> Colour:
    """Draw a skin tone between two neighbours in SKINS."""
    place = rng.uniform(0, len(SKINS) - 1)
    near, share = int(place), place % 1
    mixed = np.array(SKINS[near]) * (1 - share) + np.array(SKINS[near + 1]) * share
    return darker([int(value) for value in mixed], 1)


def glasses(size: int, rng: np.random.Generator) -> Layer:
    """Draw glasses, two lenses in a frame with bridge and temples: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    frame = any_colour(rng) if rng.random() < 0.5 else BLACK
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
    """Draw the colour of lenses: a dark or a faint tint."""
    if rng.random() < SUNGLASSES:
        red, green, blue = (int(value) for value in rng.integers(0, 70, 3))
        return red, green, blue, int(rng.integers(215, 256))
    return 235, 245, 255, int(rng.integers(30, 90))


def hand(size: int, rng: np.random.Generator) -> Layer:
    """Draw a left or right hand, palm at the lower or outer part of the face, from any side but above: RGBA."""
    sketch = Sketch(size, rng)
    tone = skin(rng)
    line = darker(tone, 0.72)
    palm = (rng.uniform(0.25, 0.75), rng.uniform(0.5, 0.85))
    wrist = rng.uniform(-0.5, math.pi + 0.5)  # 0: to the right, pi / 2: downwards
    axis, mirror, scale = wrist + math.pi, rng.choice((-1, 1)), rng.uniform(0.85, 1.25)

    def away(angle: float, length: float, start: Point = palm) -> Point:
        """Return the point scale * length from `start`, in the direction `angle` (radians)."""
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


def mask(size: int, rng: np.random.Generator) -> Layer:
    """Draw a face mask, a piece of cloth with pleats, held by ribbons: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    cloth = any_colour(rng) if rng.random() < 0.4 else CLOTHS[rng.integers(len(CLOTHS))]
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
    for share in np.linspace(0, 1, int(rng.integers(2, 6)) + 2):
        middle, height = nose + share * (chin - nose), upper + share * (lower - upper)
        half = cheek + share * (jaw - cheek)
        sketch.line(curve((0.5 - half, height), (0.5, middle), (0.5 + half, height)), 0.006, darker(cloth, 0.8))
    return sketch.layer()


def scarf(size: int, rng: np.random.Generator) -> Layer:
    """Draw a scarf from edge to edge, from nose or mouth down, plain or striped, with folds: RGBA (size, size, 4)."""
    sketch = Sketch(size, rng)
    cloth, stripe = any_colour(rng), any_colour(rng)
    top, sag = rng.uniform(0.57, 0.72), rng.uniform(0.02, 0.1)
    stripes = int(rng.integers(3, 9)) if rng.random() < 0.6 else 0

    def across(height: float) -> list[tuple[float, float]]:
        """Return a line from side to side, sagging around `height`."""
        return curve((-0.2, height - sag), (0.5, height + sag), (1.2, height - sag))

    sketch.polygon([*across(top), (1.2, 1.3), (-0.2, 1.3)], cloth)
    for number in range(stripes):
        sketch.line(across(top + (number + 0.7) * 0.5 / stripes), rng.uniform(0.15, 0.25) / stripes, stripe)
    for height in top + rng.uniform(0.02, 0.4, rng.integers(2, FOLDS, endpoint=True)):
        sketch.line(across(height), 0.008, darker(cloth, 0.7))
    sketch.line(across(top), 0.01, darker(cloth, 0.8))
    return sketch.layer()


def text(size: int, rng: np.random.Generator) -> Layer:
    """Draw one to three lines of random letters and digits over the face, with or without an outline: RGBA."""
    sketch = Sketch(size, rng)
    fill, outline = any_colour(rng, int(rng.integers(190, 256))), any_colour(rng)
    height = rng.uniform(*LETTER_HEIGHT) * sketch.side
    font = ImageFont.load_default(height)
    lines = ["".join(rng.choice(LETTERS, rng.integers(4, 10))) for _ in range(rng.integers(1, 3, endpoint=True))]
    middle = rng.uniform(0.3, 0.7, 2) * sketch.side
    stroke = round(height * rng.choice((0.0, 0.06)))
    place, caption = (float(middle[0]), float(middle[1])), "\n".join(lines)
    sketch.canvas.multiline_text(place, caption, fill, font, "mm", stroke_width=stroke, stroke_fill=outline)
    turn = float(rng.uniform(-20, 20))
    sketch.image = sketch.image.rotate(turn, center=place)
    return sketch.layer()


OCCLUDERS: dict[str, Paint] = {"glasses": glasses, "hand": hand, "mask": mask, "scarf": scarf, "text": text}
