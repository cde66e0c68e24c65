"""The interface of a source of images, and the division of its images into a train and a test split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cspipe.ingest.images import Form
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import find

if TYPE_CHECKING:  # worker processes import this module, and need no settings
    from cspipe.ingest.settings import DataSettings

Split = Literal["train", "test"]
Facts = Mapping[str, str | int]
"""Facts about a source that the index records: at least "licence" and "resize", and "paired" if images are in pairs."""


@dataclass(frozen=True)
class PreparedImage:
    """An image as it is written to the shards, uint8 (C, H, W)."""

    split: Split
    pixels: NDArray[np.uint8]
    paired: NDArray[np.uint8] | None = None
    """Image of the same scene with something in front, or None."""
    enlarged: bool = False
    """Whether the image was smaller than the size that it was resized to."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used, and why."""

    name: str
    reason: str


class Source(Protocol):
    """A stream of images, the same on every run."""

    @property
    def total(self) -> int:
        """Number of images in the stream, including those skipped."""

    @property
    def facts(self) -> Facts:
        """Facts about the source that the index records."""

    @property
    def stamp(self) -> str:
        """Digest that changes with the files read, "" if there are none. Only work with the same digest is resumed."""

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        """Yield prepared images one after the other, in constant memory, on `workers` processes (None: one per core).

        The first `start` items are left out: they were prepared before an interruption.
        The first images of a split must be as varied as the whole split: the scores take them as a sample.
        """


def find_source(data: DataSettings) -> Source:
    """Open the source that `data.source` names. Raises UserError if there is none or its input cannot be used."""
    return cast(Source, find("cspipe.sources", data.source, "open_source")(data))


def form_of(data: DataSettings) -> Form:
    """Return the form that the settings `data` convert every image to."""
    return Form(data.size, data.channels, data.crop)


def path_of(data: DataSettings) -> Path:
    """Return data.path, for a source that reads it."""
    assert data.path is not None, "params.yaml is refused without data.path"
    return data.path


def count_test(total: int, held_out: float) -> int:
    """Return how many of `total` images are the test split. Raises UserError if that leaves a split empty."""
    count = round(total * held_out)
    if not 0 < count < total:
        raise UserError(
            f"params.yaml: data.held_out {held_out} of {total} images leaves the {'train' if count else 'test'} "
            "split empty; change data.held_out, or use more images"
        )
    return count


def divide(names: Iterable[str], held_out: float, limit: int | None) -> list[tuple[Split, str]]:
    """Return the split of every name, in an order that depends on the names alone: by the sha256 of each.

    The first `limit` names are used, and the first share `held_out` of these is the test split. The order is as good
    as random, and the order of two names does not depend on the others. Raises UserError if a split is empty.
    """
    ordered = sorted(names, key=_place)[:limit]
    test = count_test(len(ordered), held_out)
    return [("test" if place < test else "train", name) for place, name in enumerate(ordered)]


def divide_officially(splits: Mapping[str, Split], limit: int | None) -> list[tuple[Split, str]]:
    """Return the first `limit` of the names, in the order of `divide`, each with its official split.

    Raises UserError if a split is empty.
    """
    chosen = [(splits[name], name) for name in sorted(splits, key=_place)[:limit]]
    for split in ("train", "test"):
        if not any(split == other for other, _ in chosen):
            raise UserError(
                f"params.yaml: data: none of {len(chosen)} images is of the official {split} split; raise data.limit"
            )
    return chosen


def _place(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()
