"""Faces: the ones the seeds stand for, all different, and pairs that differ by the occluder alone."""

import hashlib
import json
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pytest
from numpy.typing import NDArray

from cspipe.ingest.images import Form
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage
from cspipe.runtime.errors import UserError
from cspipe.sources.avatars import OCCLUDERS, Faces, Renderer, looks, open_source

Settings = Callable[..., DataSettings]
THOUSAND_FACES = "6e4b4b4a1a71bc3f42050f6f556392aea52551b858742a0ebbfabe5953cd4326"
"""sha256 of the first 1,000 pixel-art faces, (N, H, W, C): computed once by other code, with the pinned versions."""


def faces(source: Faces, workers: int = 1) -> list[PreparedImage]:
    items = list(source.stream(workers))
    assert all(isinstance(item, PreparedImage) for item in items)
    return items  # type: ignore[return-value]


def definition(style: str) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))


def test_faces_are_those_of_their_seeds() -> None:
    rendered = Renderer("pixel-art", looks("pixel-art", "none"), Form(16, 3, "center"))(range(1000))
    assert rendered.shape == (1000, 1, 3, 16, 16)
    pixels = np.ascontiguousarray(rendered[:, 0].transpose(0, 2, 3, 1))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == THOUSAND_FACES


@pytest.mark.parametrize("style", sorted(OCCLUDERS))
def test_every_style(style: str, settings: Settings) -> None:
    source = open_source(settings(style=style, limit=8, size=32))
    assert source.facts["style"] == style
    assert str(source.facts["licence"]).startswith("CC0 1.0")
    images = faces(source)
    assert [image.split for image in images] == ["test"] * 2 + ["train"] * 6
    assert all(image.pixels.shape == (3, 32, 32) and image.pixels.std() > 10 for image in images)
    assert all(image.paired is None for image in images)
    assert len({image.pixels[:, 0, 0].tobytes() for image in images}) > 1, "backgrounds are coloured"


def test_no_two_faces_are_equal() -> None:
    form = Form(2, 1, "center")
    rendered = Renderer("notionists", looks("notionists", "none"), form)(range(150))
    unique = list(dict.fromkeys(face.tobytes() for face in rendered[:, 0]))
    assert len(unique) < 150, "the test needs seeds that look the same"
    images = faces(Faces("notionists", "none", form, total=len(unique) + 1, test=50, licence=""))
    assert [image.pixels.tobytes() for image in images[:-1]] == unique
    assert len({image.pixels.tobytes() for image in images}) == len(images)
    split = {name: {p.pixels.tobytes() for p in images if p.split == name} for name in ("train", "test")}
    assert len(split["test"]) == 50
    assert not split["test"] & split["train"]


def test_too_few_different_faces() -> None:
    with pytest.raises(UserError, match=r"only \d+ different faces.*data\.size"):
        faces(Faces("pixel-art", "none", Form(1, 1, "center"), total=20, test=2, licence=""))


@pytest.mark.parametrize(("style", "paired", "scale"), [("pixel-art", "glasses", 1), ("open-peeps", "mask", 64 / 704)])
def test_pairs_differ_in_the_region_of_the_occluder_alone(
    style: str, paired: str, scale: float, settings: Settings
) -> None:
    size = 16 if style == "pixel-art" else 64
    images = faces(open_source(settings(style=style, paired=paired, limit=40, size=size)))
    changed = np.stack([changes(image) for image in images])
    assert changed.any((1, 2)).all()
    component = definition(style)["components"][paired]
    for axis, side in ((1, "height"), (2, "width")):
        for image in changed:
            assert extent(image.any(2 - axis)) <= component[side] * scale + 2


def changes(image: PreparedImage) -> NDArray[np.bool_]:
    """Where (H, W) a pair differs."""
    assert image.paired is not None
    return (image.pixels != image.paired).any(0)


def extent(line: NDArray[np.bool_]) -> int:
    """Pixels from the first to the last that is set."""
    places = np.flatnonzero(line)
    return int(places[-1] - places[0] + 1)


def test_a_missing_occluder_is_told(settings: Settings) -> None:
    with pytest.raises(UserError, match="pixel-art has no mask, only glasses"):
        open_source(settings(paired="mask"))
