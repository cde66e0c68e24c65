"""Apply a trained net to a user's image of any size: choose the square that the net sees, paste its result back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cspipe.data.conditions import masked
from cspipe.ingest.images import Form, fit
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.sampling.batches import Sampler

Square = tuple[slice, slice]
"""Rows and columns of a square in an image."""


def apply(image: NDArray[np.uint8], hole: NDArray[np.bool_] | None, sampler: Sampler, seed: int) -> NDArray[np.uint8]:
    """Return `image` (C, H, W), C 1 or 3, with its `hole` (H, W) filled by a sampler; other pixels stay as they are.

    The net sees one square (`square_around`) at its own size, and nothing of what lies in the hole. Without a hole the
    sampler is that of a net of task deocclude, and its result replaces the square. Raises UserError.
    """
    square = square_around(image, hole)
    before = image[:, *square]
    inside = np.ones(before.shape[1:], np.bool_) if hole is None else hole[square]
    if not inside.any():
        return image.copy()
    channels, size, _ = sampler.shape
    known = before if hole is None else _means_in_hole(before, inside, size)
    inputs = fit(as_image(known), Form(size, channels, "center"))[None]
    if hole is not None:
        inputs = masked(inputs, (_boxes(inside, size) > 0)[None, None])
    result = fit(as_image(sampler([seed], inputs)[0]), Form(len(inside), 1 if len(image) == 1 else 3, "center"))
    after = image.copy()
    after[:, *square] = np.where(inside, result, before)
    return after


def square_around(image: NDArray[np.uint8], hole: NDArray[np.bool_] | None) -> Square:
    """Return the largest square of `image` (C, H, W): centred, or as near to that as contains the `hole` (H, W).

    Nets are trained on squares; a squeezed face would be unlike their training images. Raises UserError if no square
    contains the hole, or if the hole is that of an image of another size.
    """
    height, width = image.shape[1:]
    hole = np.zeros((height, width), np.bool_) if hole is None else hole
    if hole.shape != (height, width):
        raise UserError(
            f"the mask is {hole.shape[1]} x {hole.shape[0]} pixels, the image {width} x {height}; make a mask of the "
            "image's size, white where the hole is"
        )
    side = min(height, width)
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return _span(rows, height, side, "high"), _span(columns, width, side, "wide")


def _span(places: NDArray[np.intp], length: int, side: int, direction: str) -> slice:
    """Return `side` of `length` positions: centred, or as near to that as contains all `places`. Raises UserError."""
    start = (length - side) // 2
    if len(places):
        first, last = int(places[0]), int(places[-1])
        if last - first >= side:
            raise UserError(
                f"the hole is {last - first + 1} pixels {direction}, but the net sees a square of {side}; fill it in "
                "parts, with a mask for each, or crop the image"
            )
        start = min(max(start, last - side + 1), first)
    return slice(start, start + side)


def _means_in_hole(square: NDArray[np.uint8], hole: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """Return `square` (C, S, S) with its hole filled by colours around it: means over boxes that hold known pixels.

    The reduction to the net's `size` mixes neighbours; after this, nothing from the hole is mixed into known pixels.
    """
    filling = np.zeros_like(square)
    for boxes in sorted({max(size >> halvings, 1) for halvings in range(size.bit_length())}):  # the smallest box wins
        known = _boxes(~hole, boxes)
        sums = np.stack([_boxes(np.where(hole, 0, channel), boxes) for channel in square])
        means = np.where(known > 0, sums / np.maximum(known, 1e-6), 0).round().clip(0, 255).astype(np.uint8)
        near = np.asarray(Image.fromarray(known > 0).resize(hole.shape, Image.Resampling.NEAREST))
        spread = [Image.fromarray(channel).resize(hole.shape, Image.Resampling.NEAREST) for channel in means]
        filling = np.where(near, np.stack([np.asarray(channel) for channel in spread]), filling)
    return np.where(hole, filling, square)


def _boxes(values: NDArray[np.generic], size: int) -> NDArray[np.float32]:
    """Average `values` (S, S) over boxes, to float32 (size, size); above 0 where any value in a box is."""
    whole = Image.fromarray(values.astype(np.float32))
    return np.asarray(whole.resize((size, size), Image.Resampling.BOX))


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Convert pixels, uint8 (C, H, W), C 1 or 3, to an image of Pillow."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def as_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image of mode L or RGB to pixels, uint8 (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
