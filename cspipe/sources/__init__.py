"""Where pictures come from, a file each; `data.source` in params.yaml is the file's name, with - for _.

To add one, add a file with
- `open_source(data: DataSettings) -> Source`, which raises UserError if the source cannot be used;
- `READS_PATH`: whether it reads data.path; if not, it makes its pictures, as many as data.limit;
- `OFFICIAL_SPLIT`: whether it has a test split of its own, so that data.held_out must be `official`;
- `PAIRED`: whether it can give pairs;
- `DOWNLOADS = True` if it fetches what is not there.
Files that start with _ are what several sources share.
Worker processes import the file: no torch, and the params models for types alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cspipe.ingest.images import Form
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import find

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings  # for types alone: worker processes read no parameters

Split = Literal["train", "test"]
Facts = Mapping[str, str | int]
"""What the index tells of a source: "licence" and "resize" at least, and "paired" if pictures are."""


@dataclass(frozen=True)
class Picture:
    """A prepared picture, uint8 (C, H, W)."""

    split: Split
    pixels: NDArray[np.uint8]
    paired: NDArray[np.uint8] | None = None
    """The same scene with something in front, or None."""


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be used, and why."""

    name: str
    reason: str


class Source(Protocol):
    """A stream of pictures, the same on every run."""

    @property
    def total(self) -> int:
        """Pictures in the stream, those skipped among them."""

    @property
    def facts(self) -> Facts:
        """What the index tells of the source."""

    @property
    def stamp(self) -> str:
        """Changes with the files that are read, "" if there are none. Unfinished work goes on only with the same."""

    def stream(self, workers: int | None, start: int = 0) -> Iterator[Picture | Skipped]:
        """Prepare pictures one after the other, in constant memory, on `workers` processes (None: one per core).

        The first `start` items are left out: they were taken before the work was stopped.
        The first pictures of a split must be as varied as all of it: others take them as a sample.
        """


def find_source(data: DataSettings) -> Source:
    """The source that `data.source` names. Raises UserError if there is none or its input cannot be used."""
    return cast(Source, find(__name__, data.source, "open_source")(data))


def form_of(data: DataSettings) -> Form:
    """What every picture is brought to."""
    return Form(data.size, data.channels, data.crop)


def count_test(total: int, held_out: float) -> int:
    """Pictures of `total` that are the test split. Raises UserError if that leaves a split empty."""
    count = round(total * held_out)
    if not 0 < count < total:
        raise UserError(
            f"params.yaml: data.held_out {held_out} of {total} pictures leaves the {'train' if count else 'test'} "
            "split empty; change data.held_out, or take more pictures"
        )
    return count


def divide(names: Iterable[str], held_out: float, limit: int | None) -> list[tuple[Split, str]]:
    """The split of every name, in an order that depends on the names alone: by the sha256 of each.

    The first `limit` are used, and the first share `held_out` of these is the test split. The order is as good as
    random, and that of two names does not depend on the others. Raises UserError if a split is empty.
    """
    ordered = sorted(names, key=_place)[:limit]
    test = count_test(len(ordered), held_out)
    return [("test" if place < test else "train", name) for place, name in enumerate(ordered)]


def divide_officially(splits: Mapping[str, Split], limit: int | None) -> list[tuple[Split, str]]:
    """The first `limit` of the names, in the order of `divide`, each with its own split.

    Raises UserError if a split is empty.
    """
    chosen = [(splits[name], name) for name in sorted(splits, key=_place)[:limit]]
    for split in ("train", "test"):
        if not any(split == other for other, _ in chosen):
            raise UserError(
                f"params.yaml: data: none of {len(chosen)} pictures is of the official {split} split; raise data.limit"
            )
    return chosen


def _place(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()
