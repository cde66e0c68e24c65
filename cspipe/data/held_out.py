"""Held-out images as the inputs of a task: the conditions that the net sees, and the truth to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cspipe.data.conditions import Conditions
from cspipe.data.seeds import derive_seed
from cspipe.data.shards import Shards
from cspipe.runtime.errors import UserError


@dataclass(frozen=True)
class HeldOut:
    """Inputs of a task: sample i has image i // F of the test split, with a condition of family i % F of F families.

    Every family is therefore tried on the same images. Raises UserError if the split has too few for `count` samples.
    """

    images: Shards
    conditions: Conditions
    seed: int
    """Seed of the first sample; the condition of sample i is drawn for seed + i."""
    count: int

    def __post_init__(self) -> None:
        most = len(self.conditions.families) * len(self.images)
        if self.count > most:
            raise UserError(
                f"params.yaml: sample.images {self.count} is more than the test split has for the task ({most}: "
                f"{len(self.images)} images, families {', '.join(self.conditions.families)}); set it to {most} or "
                "less, or raise data.limit or data.held_out"
            )

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the conditions (stop - start, K, H, W) of samples start..stop - 1."""
        families = self.conditions.families
        numbers = image_numbers(start, stop, len(families))
        seeds = [derive_seed(self.seed + i, "condition") for i in range(start, stop)]
        return self.conditions(numbers, self.images.gather(numbers), seeds, families_of(start, stop, families))


def image_numbers(start: int, stop: int, families: int) -> NDArray[np.int64]:
    """Indices in the test split of the images of samples start..stop - 1; families: their number."""
    return np.arange(start, stop) // families


def families_of(start: int, stop: int, families: Sequence[str]) -> list[str]:
    """Family of each of samples start..stop - 1."""
    return [families[i % len(families)] for i in range(start, stop)]
