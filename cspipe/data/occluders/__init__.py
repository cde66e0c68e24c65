"""Things in front of a face, a file each; `condition.occluders` in params.yaml lists their names.

To add one, add a file with `draw(size, rng) -> layer`: uint8 (size, size, 4), RGBA with straight alpha. Every random
number comes from `rng`, so that a seed has one occluder. Faces are upright and aligned as those of FFHQ and CelebA-HQ:
eyes at about 46 % of the height and 37 % and 63 % of the width, mouth at 70 %, chin at 90 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cspipe.runtime.registry import find

Paint = Callable[[int, np.random.Generator], NDArray[np.uint8]]
LUMA = np.array([0.299, 0.587, 0.114])
"""Grey of RGB (ITU-R 601)."""


def find_occluder(name: str) -> Paint:
    """The occluder of a name. Raises UserError if there is none."""
    return cast(Paint, find(__name__, name, "draw"))


def occlude(pixels: NDArray[np.uint8], name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (C, H, W), C 1 or 3 and H = W, with an occluder in front. Raises UserError for an unknown name."""
    return put_in_front(pixels, find_occluder(name)(pixels.shape[-1], rng))


def put_in_front(pixels: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A layer (H, W, 4) over a picture (C, H, W), C 1 or 3, on the stored (gamma-coded) values."""
    colour, alpha = layer[..., :3].astype(np.float64), layer[..., 3] / 255
    front = (colour @ LUMA)[None] if len(pixels) == 1 else colour.transpose(2, 0, 1)
    return np.rint(alpha * front + (1 - alpha) * pixels).astype(np.uint8)
