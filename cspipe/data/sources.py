"""Where pictures come from.

To add a source, add one file: a module of this package, named as `data.source` in params.yaml, with a function
`open_source(data: Data) -> Source`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cspipe.data.images import Form
from cspipe.errors import UserError

if TYPE_CHECKING:
    from cspipe.params import Data  # for types alone: worker processes read no parameters

Split = Literal["train", "test"]


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
    def facts(self) -> Mapping[str, str | int]:
        """What the index tells of the source: "licence" and "resize" at least, and "paired" if pictures are."""

    def stream(self, workers: int | None) -> Iterator[Picture | Skipped]:
        """Prepare pictures one after the other, in constant memory, on `workers` processes (None: one per core).

        The first pictures of a split must be as varied as all of it: others take them as a sample.
        """


def find_source(data: Data) -> Source:
    """The source that `data.source` names. Raises UserError if there is none or its input cannot be used."""
    name = f"cspipe.data.{data.source}"
    module = import_module(name) if find_spec(name) else None
    if module is None or not hasattr(module, "open_source"):
        raise UserError(f"params.yaml: data.source {data.source!r} is no source (no open_source in module {name})")
    return cast(Source, module.open_source(data))


def form_of(data: Data) -> Form:
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
    ordered = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())[:limit]
    test = count_test(len(ordered), held_out)
    return [("test" if place < test else "train", name) for place, name in enumerate(ordered)]
