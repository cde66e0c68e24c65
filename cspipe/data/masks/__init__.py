"""Families of masks for inpainting, a file each; `condition.masks` in params.yaml lists their names.

To add one, add a file with `draw(size, rng) -> holes`: bool (size, size), True where the picture is to be filled in.
Every random number comes from `rng`, so that a seed has one mask; lengths scale with size. A hole is never empty and
never the whole picture, from SMALLEST pixels on.

half, completion and expand are those of the NTIRE 2022 inpainting challenge (half also of RePaint, Lugmayr et al.
2022); thick, medium and thin follow the generators of LaMa (Suvorov et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cspipe.runtime.registry import find

SMALLEST = 4
"""Pixels, height and width, of the smallest picture that has a hole of every family."""

Draw = Callable[[int, np.random.Generator], NDArray[np.bool_]]


def find_masks(name: str) -> Draw:
    """The family of a name. Raises UserError if there is none."""
    return cast(Draw, find(__name__, name, "draw"))
