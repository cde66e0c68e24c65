"""Rendered faces: DiceBear styles in the public domain (CC0), drawn by resvg at the requested size.

Faces are the avatars with seeds "0", "1", ... Different seeds can look the same, above all at small sizes: a face with
the pixels of an earlier one is dropped and a further seed rendered, so no two faces are equal and no test face is a
training face.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cspipe.ingest.images import Form, fit
from cspipe.ingest.parallel import chunks, parallel_map
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped, count_test, form_of
from cspipe.runtime.errors import UserError

Options = dict[str, Any]

READS_PATH = OFFICIAL_SPLIT = False
PAIRED = True
BACKGROUNDS = ["b6e3f4", "c0aede", "ffd5dc", "d1d4f9", "ffdfbf"]
FURTHER_SEEDS = 64
"""Number of seeds in the second round, which replaces faces dropped in the first. It doubles for each later round."""
SEEDS_PER_FACE = 10
"""Number of seeds tried per requested face before a style counts as exhausted."""

_SPECTACLES = ["glasses", "glasses2", "glasses3", "glasses4", "glasses5", "sunglasses", "sunglasses2"]
OCCLUDERS: dict[str, dict[str, tuple[str, Options]]] = {
    "pixel-art": {"glasses": ("glasses", {})},
    "open-peeps": {"glasses": ("accessories", {"accessoriesVariant": _SPECTACLES}), "mask": ("mask", {})},
    "voxel-art": {"glasses": ("glasses", {})},
    "lorelei": {"glasses": ("glasses", {})},
    "notionists": {"glasses": ("glasses", {})},
}
"""Occluders that each style can draw in front of a face: by name, the component of the style and its options."""


def open_source(data: DataSettings) -> Faces:
    """Return the faces that data.avatars describes. Raises UserError if the style lacks the occluder."""
    style, paired = data.avatars.style, data.avatars.paired
    occluders = OCCLUDERS[style]
    if paired != "none" and paired not in occluders:
        raise UserError(
            f"params.yaml: data.avatars.paired: style {style} has no {paired}, only {', '.join(occluders)}; set one of "
            "these, or none, or another style"
        )
    assert data.limit is not None, "params.yaml is refused without data.limit"
    test = count_test(data.limit, data.test_share)
    return Faces(style, paired, form_of(data), data.limit, test, _licence(style))


def looks(style: str, paired: str) -> list[Options]:
    """Return the DiceBear options of each rendering of a face: one, or the clean and the occluded one.

    The two differ only in the occluder's probability; DiceBear draws each option from a separate hash of the seed, so
    all else stays the same. An unpaired face keeps the natural variety of its style, including glasses and masks.
    """
    options: Options = {"backgroundColor": BACKGROUNDS}
    if paired == "none":
        return [options]
    component, more = OCCLUDERS[style][paired]
    return [{**options, **more, f"{component}Probability": percent} for percent in (0, 100)]


@dataclass(frozen=True)
class Faces:
    """A source of `total` different faces, the first `test` of them the test split."""

    style: str
    paired: str
    form: Form
    total: int
    test: int
    licence: str

    @property
    def facts(self) -> Mapping[str, str | int]:
        """Facts about the source that the index records."""
        drawn = {"crop": "none", "resize": "none, rendered at this size"}
        return {"style": self.style, "licence": self.licence, "paired": self.paired, **drawn}

    @property
    def stamp(self) -> str:
        """Empty: the source reads no files."""
        return ""

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        """Yield rendered faces until there are `total` different ones.

        Pairs on which the occluder does not show (hidden by hair, too small) are dropped as well. The first `start` are
        rendered but not yielded, as later ones must differ from them. Raises UserError if the style has too few
        different faces of this size.
        """
        seen: set[bytes] = set()
        kept = 0
        for face in self._faces(workers):
            prints = {hashlib.blake2b(pixels, digest_size=16).digest() for pixels in face}
            if len(prints) < len(face) or prints & seen:
                continue
            seen |= prints
            if kept >= start:
                yield PreparedImage(
                    "test" if kept < self.test else "train", face[0], face[1] if len(face) > 1 else None
                )
            kept += 1
            if kept == self.total:
                return
        raise UserError(
            f"params.yaml: style {self.style} has only {kept} different faces of {self.form.size} pixels among at "
            f"least {SEEDS_PER_FACE * self.total} seeds; lower data.limit ({self.total}) or raise data.size"
        )

    def _faces(self, workers: int | None) -> Iterator[NDArray[np.uint8]]:
        """Yield the faces of seeds 0, 1, ..., each (looks, C, H, W): first `total` seeds, then rounds of more."""
        variants = looks(self.style, self.paired)
        renderer = partial(Renderer, self.style, variants, self.form)
        start, stop, further = 0, self.total, FURTHER_SEEDS
        while start < SEEDS_PER_FACE * self.total:
            jobs = chunks(range(start, stop), (len(variants), *self.form.shape))
            for faces in parallel_map(renderer, jobs, workers):
                yield from faces
            start, stop, further = stop, stop + further, 2 * further


class Renderer:
    """Renders faces; the style is read and checked once, which takes longer than rendering hundreds of faces."""

    def __init__(self, style: str, looks: list[Options], form: Form) -> None:
        from dicebear import Style

        self.style, self.looks, self.form = Style(_definition(style)), looks, form

    def __call__(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Render the faces of these seeds: uint8 (len(seeds), looks, C, H, W)."""
        return np.stack([[self._render({**look, "seed": str(seed)}) for look in self.looks] for seed in seeds])

    def _render(self, options: Options) -> NDArray[np.uint8]:
        from dicebear import Avatar
        from resvg_py import svg_to_bytes

        size = self.form.size
        svg = Avatar(self.style, options).to_string()
        png = svg_to_bytes(svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True)
        return fit(Image.open(io.BytesIO(png)), self.form)


def _definition(style: str) -> dict[str, Any]:
    """Read the JSON definition of a style."""
    definition: dict[str, Any] = json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))
    return definition


def _licence(style: str) -> str:
    """Return the licence that a style states, with its address."""
    licence = _definition(style)["meta"]["license"]
    return f"{licence['name']} ({licence['url']})"
