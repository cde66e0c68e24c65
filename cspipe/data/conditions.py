"""What the net sees beside x_t: a picture with a hole and where the hole is, or a picture with something in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cspipe.data.masks import SMALLEST, Draw, find_masks
from cspipe.data.masks._own import load_own
from cspipe.data.occluders import Paint, find_occluder, put_in_front
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.data.settings import ConditionSettings
    from cspipe.data.shards import Shards

GREY = 128
"""What stands in the hole of a picture."""
OWN, PAIRS = "own", "pairs"
"""Families that are no files: masks of condition.mask_folder, and the pairs of the data."""


class Conditions(Protocol):
    """Conditions of the pictures of a split."""

    @property
    def families(self) -> Sequence[str]:
        """Mask families, occluders, or only PAIRS."""

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """For the pictures in places `numbers` (N,) of the split, which are `pixels` (N, C, H, W): (N, K, H, W).

        The same seed gives the same condition; `families`, one per picture, replaces those that the seeds draw.
        """


def condition_channels(task: str, image_channels: int) -> int:
    """K, channels of a condition. Raises KeyError for an unknown task."""
    return {"generate": 0, "inpaint": image_channels + 1, "deocclude": image_channels}[task]


def open_conditions(task: str, settings: ConditionSettings, images: Shards, prepared: Path) -> Conditions | None:
    """The conditions of a task for the pictures of a split; None for generate. Raises UserError if there are none.

    Own masks are those that the folder `prepared` has.
    """
    if task == "generate":
        return None
    if task == "inpaint":
        return Holes(_mask_families(settings, images.shape[-1], prepared))
    if settings.occluders:
        return Occluded({name: find_occluder(name) for name in settings.occluders})
    if images.paired is None:
        raise UserError(
            "params.yaml: condition.occluders is empty, and the prepared pictures have no pairs; name occluders, or "
            "prepare pairs (data.avatars.paired)"
        )
    return Pairs(images.paired)


def _mask_families(settings: ConditionSettings, size: int, prepared: Path) -> dict[str, Draw]:
    """The families that params.yaml names, the user's own last. Raises UserError if there is none."""
    if size < SMALLEST:
        raise UserError(f"params.yaml: data.size {size} is too small for a hole; inpainting needs {SMALLEST} or more")
    families = {name: find_masks(name) for name in settings.masks}
    if settings.mask_folder is not None:
        families[OWN] = load_own(prepared, size).draw
    if not families:
        raise UserError("params.yaml: condition.masks is empty and condition.mask_folder null; name masks for inpaint")
    return families


def masked(pixels: NDArray[np.uint8], holes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Conditions (N, C + 1, H, W) of pictures (N, C, H, W) and holes (N, 1, H, W).

    The picture is GREY in its hole; the last channel is 255 in the hole and 0 elsewhere.
    """
    return np.concatenate([np.where(holes, np.uint8(GREY), pixels), np.where(holes, np.uint8(255), np.uint8(0))], 1)


def hole_of(condition: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Holes, bool (N, 1, H, W), of conditions of inpaint (N, C + 1, H, W)."""
    return condition[:, -1:] > 0


@dataclass(frozen=True)
class Holes:
    """Conditions of inpaint: pictures with a hole each."""

    draws: Mapping[str, Draw]

    @property
    def families(self) -> Sequence[str]:
        """Families of masks."""
        return list(self.draws)

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Pictures with their holes, (N, C + 1, H, W); `numbers` is not read."""
        drawn = _drawn(self.families, seeds, families)
        holes = [self.draws[family](pixels.shape[-1], rng)[None] for family, rng in drawn]
        return masked(pixels, np.stack(holes))


@dataclass(frozen=True)
class Occluded:
    """Conditions of deocclude: something painted in front of each picture."""

    paints: Mapping[str, Paint]

    @property
    def families(self) -> Sequence[str]:
        """Occluders."""
        return list(self.paints)

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Occluded pictures (N, C, H, W); `numbers` is not read."""
        drawn = _drawn(self.families, seeds, families)
        pairs = zip(pixels, drawn, strict=True)
        return np.stack([put_in_front(one, self.paints[family](one.shape[-1], rng)) for one, (family, rng) in pairs])


@dataclass(frozen=True)
class Pairs:
    """Conditions of deocclude: the second picture that the data have of each scene. Seeds change nothing."""

    paired: Shards

    @property
    def families(self) -> Sequence[str]:
        """The one family."""
        return (PAIRS,)

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Occluded pictures (N, C, H, W) of the places `numbers`; nothing else is read."""
        return self.paired.gather(numbers)


def _drawn(
    known: Sequence[str], seeds: Sequence[int], families: Sequence[str] | None
) -> list[tuple[str, np.random.Generator]]:
    """The family of each seed, or the one asked for, and the numbers that follow, which are the same in both cases."""
    rngs = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
    drawn = [known[int(rng.integers(len(known)))] for rng in rngs]
    return list(zip(drawn if families is None else families, rngs, strict=True))
