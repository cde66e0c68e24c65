"""Conditions: what the net sees beside x_t, such as an image with a hole and where it is, or with an occluder in front.

Each task is a file of cspipe/tasks, found by its name, so that a stage depends only on the file of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cspipe.runtime.registry import find

if TYPE_CHECKING:
    from cspipe.data.settings import ConditionSettings
    from cspipe.data.shards import Shards

TASKS = "cspipe.tasks"
GREY = 128
"""Pixel value in the hole of an image."""

Layer = TypeVar("Layer")
"""Type of what a family draws: a hole, or an occluder."""


class Conditions(Protocol):
    """Conditions of the images of a split."""

    @property
    def families(self) -> Sequence[str]:
        """Names of the kinds of condition: families of masks, occluders, or only that of the pairs."""

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Return conditions (N, K, H, W) of the images `pixels` (N, C, H, W), at indices `numbers` (N,) of the split.

        The same seed gives the same condition; `families`, one per image, replaces those that the seeds draw.
        """


def condition_channels(task: str, image_channels: int) -> int:
    """Number of channels K of a condition; 0 for a task without one. Raises UserError for an unknown task."""
    return cast(int, find(TASKS, task, "condition_channels")(image_channels))


def open_conditions(task: str, settings: ConditionSettings, images: Shards, prepared: Path) -> Conditions | None:
    """Open the conditions of a task for the images of a split; None for a task without any.

    `prepared` is the folder of the prepared data. Raises UserError if params.yaml or the data lack what the task needs.
    """
    return cast("Conditions | None", find(TASKS, task, "open_conditions")(settings, images, prepared))


@dataclass(frozen=True)
class DrawnConditions(Generic[Layer]):
    """Conditions drawn at random: a seed gives the family, then what the family draws; `apply` puts it on the image."""

    draws: Mapping[str, Callable[[int, np.random.Generator], Layer]]
    """Functions by family that draw a layer, from the image's size in pixels and a random generator."""
    apply: Callable[[NDArray[np.uint8], Layer], NDArray[np.uint8]]
    """Function from an image (C, H, W) and the layer drawn to the condition (K, H, W)."""

    @property
    def families(self) -> Sequence[str]:
        """The names in `draws`."""
        return list(self.draws)

    def __call__(
        self,
        numbers: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        seeds: Sequence[int],
        families: Sequence[str] | None = None,
    ) -> NDArray[np.uint8]:
        """Conditions (N, K, H, W) of images (N, C, H, W); `numbers` is not read."""
        rngs = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        # also if `families` replace these: the random numbers that follow are the same
        drawn = [self.families[int(rng.integers(len(self.draws)))] for rng in rngs]
        triples = zip(pixels, drawn if families is None else families, rngs, strict=True)
        return np.stack([self.apply(one, self.draws[family](one.shape[-1], rng)) for one, family, rng in triples])


def masked(pixels: NDArray[np.uint8], holes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Make conditions (N, C + 1, H, W) of task inpaint from images (N, C, H, W) and holes (N, 1, H, W).

    The image is GREY in its hole; the last channel is 255 in the hole and 0 elsewhere.
    """
    return np.concatenate([np.where(holes, np.uint8(GREY), pixels), np.where(holes, np.uint8(255), np.uint8(0))], 1)


def hole_of(condition: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the holes, bool (N, 1, H, W), of conditions (N, C + 1, H, W) of task inpaint."""
    return condition[:, -1:] > 0
