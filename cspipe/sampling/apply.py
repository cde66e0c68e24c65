"""A person's own picture, of any size, under a trained net: the square that the net sees, and what of it goes back."""

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
"""Rows and columns of a picture, as many of each."""


def inpaint(picture: NDArray[np.uint8], hole: NDArray[np.bool_], sampler: Sampler, seed: int) -> NDArray[np.uint8]:
    """`picture` (C, H, W), C 1 or 3, with its `hole` (H, W) filled by a sampler that fills; all else is as it was.

    The net sees one square (`square_around`) at its own size, and nothing of what lies in the hole. Without a hole
    nothing is done. Raises UserError as `square_around` does.
    """
    square = square_around(picture, hole)
    if not hole.any():
        return picture.copy()
    inside, size = hole[square], sampler.shape[1]
    seen = _at_net(_means_in_hole(picture[:, *square], inside, size), sampler.shape)
    result = sampler([seed], masked(seen[None], (_boxes(inside, size) > 0)[None, None]))[0]
    filled = picture.copy()
    filled[:, *square] = np.where(inside, _at_picture(result, picture, square), picture[:, *square])
    return filled


def deocclude(picture: NDArray[np.uint8], sampler: Sampler, seed: int) -> NDArray[np.uint8]:
    """`picture` (C, H, W), C 1 or 3, without what stands in front, by the sampler of a net of task deocclude.

    The largest square in the middle is seen at the net's size and replaced by the result; the rest is as it was.
    """
    square = square_around(picture, np.zeros(picture.shape[1:], np.bool_))
    result = sampler([seed], _at_net(picture[:, *square], sampler.shape)[None])[0]
    clean = picture.copy()
    clean[:, *square] = _at_picture(result, picture, square)
    return clean


def square_around(picture: NDArray[np.uint8], hole: NDArray[np.bool_]) -> Square:
    """The largest square of `picture` (C, H, W), in the middle, or as near to it as contains the `hole` (H, W).

    Nets are trained on squares; a squeezed face would be none that they know. Raises UserError if no square contains
    the hole, or if the hole is that of a picture of another size.
    """
    height, width = picture.shape[1:]
    if hole.shape != (height, width):
        raise UserError(
            f"the mask is {hole.shape[1]} x {hole.shape[0]} pixels, the picture {width} x {height}; make a mask of the "
            "picture's size, white where the hole is"
        )
    side = min(height, width)
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return _span(rows, height, side, "high"), _span(columns, width, side, "wide")


def _span(places: NDArray[np.intp], length: int, side: int, way: str) -> slice:
    """`side` of `length` places in the middle, or as near to it as has all of `places`. Raises UserError."""
    start = (length - side) // 2
    if len(places):
        first, last = int(places[0]), int(places[-1])
        if last - first >= side:
            raise UserError(
                f"the hole is {last - first + 1} pixels {way}, but the net sees a square of {side}; fill it in parts, "
                "with a mask for each, or crop the picture"
            )
        start = min(max(start, last - side + 1), first)
    return slice(start, start + side)


def _means_in_hole(square: NDArray[np.uint8], hole: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """`square` (C, S, S) with the colours around its hole in it, as means over boxes that hold something known.

    The reduction to the net's `size` mixes neighbours: so nothing that lies in the hole is mixed into known pixels.
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
    """Means of (S, S) over the pixels of a net of `size`, float32 (size, size); above 0 where any value is."""
    whole = Image.fromarray(values.astype(np.float32))
    return np.asarray(whole.resize((size, size), Image.Resampling.BOX))


def _at_net(square: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A square (C, S, S) in the shape of a net's pictures, brought to it as the training pictures were."""
    return fit(as_image(square), Form(shape[1], 1 if shape[0] == 1 else 3, "center"))


def _at_picture(result: NDArray[np.uint8], picture: NDArray[np.uint8], square: Square) -> NDArray[np.uint8]:
    """A net's result in the size of the square, with the channels of the picture."""
    side = square[0].stop - square[0].start
    return fit(as_image(result), Form(side, 1 if len(picture) == 1 else 3, "center"))


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """uint8 (C, H, W), C 1 or 3, for Pillow."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def as_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode L or RGB as uint8 (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
