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
    """Sample i is of image i // F of the test split under family i % F of its F families.

    So every family is tried on the same images. Raises UserError if `count` samples need more than there are.
    """

    images: Shards
    conditions: Conditions
    seed: int
    """Of the first sample; the condition of sample i is drawn for seed + i."""
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
        """The conditions of samples start..stop: (stop - start, K, H, W)."""
        families = self.conditions.families
        numbers = image_numbers(start, stop, len(families))
        seeds = [derive_seed(self.seed + i, "condition") for i in range(start, stop)]
        return self.conditions(numbers, self.images.gather(numbers), seeds, families_of(start, stop, families))


def image_numbers(start: int, stop: int, families: int) -> NDArray[np.int64]:
    """Places in the test split of samples start..stop."""
    return np.arange(start, stop) // families


def families_of(start: int, stop: int, families: Sequence[str]) -> list[str]:
    """The family of each of samples start..stop."""
    return [families[i % len(families)] for i in range(start, stop)]
