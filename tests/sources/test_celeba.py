"""CelebA as it is published, with a few images of each split."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspipe.ingest.files import Files
from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.ingest.source import PreparedImage, Skipped
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import find

Open = Callable[..., Files]
NUMBERS = [*range(1, 13), 162_770, 162_771, 182_637, 182_638, *range(202_590, 202_600)]
"""Thirteen train images, two of validation, eleven of test."""
CROPS = ("celeba64_ddim", "celeba64_140")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as people have it; the red of a pixel is its x, the green its y, the blue tells the image."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    y, x = np.indices((218, 178))
    for place, number in enumerate(NUMBERS):
        pixels = np.stack([x, y, np.full_like(x, 9 * place)], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"img_align_celeba/{number:06}.jpg", quality=98, subsampling=0)
    return folder


@pytest.fixture
def opened(settings: Callable[..., DataSettings]) -> Open:
    """Open a folder as one of the crops; size 128 leaves the pixels of DDIM's as they are."""

    def opened(path: Path, source: str = "celeba64_ddim", **values: object) -> Files:
        data = settings(**{"source": source, "path": path, "limit": 26, "size": 128, **values})
        return find(SOURCES, source, "open_source")(data)  # type: ignore[no-any-return]

    return opened


def test_the_official_split_without_validation(tree: Path, opened: Open) -> None:
    for source in CROPS:
        files = opened(tree, source)
        items = [item for item in files.stream(1) if isinstance(item, PreparedImage)]
        assert len(items) == len(files.names) == 24
        for (split, name), item in zip(files.names, items, strict=True):
            place = NUMBERS.index(int(name[:6]))
            assert item.split == split == ("train" if place < 13 else "test")
            assert abs(int(item.pixels[2].mean()) - 9 * place) <= 2
        assert files.facts["validation_left_out"] == 2


@pytest.mark.parametrize(
    ("source", "corner", "side", "name"),
    [("celeba64_ddim", (25, 57), 128, "bilinear"), ("celeba64_140", (19, 39), 140, "bicubic")],
)
def test_each_crop_is_resized_as_its_source_does(
    source: str, corner: tuple[int, int], side: int, name: str, tmp_path: Path, opened: Open
) -> None:
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)
    for number in NUMBERS:
        Image.fromarray(noise).save(folder / f"{number:06}.jpg")
    files = opened(tmp_path, source, size=64)
    left, top = corner
    image = Image.open(folder / "000001.jpg").crop((left, top, left + side, top + side))
    expected = np.asarray(image.resize((64, 64), Image.Resampling[name.upper()])).transpose(2, 0, 1)
    assert np.array_equal(next(iter(files.stream(1))).pixels, expected)  # type: ignore[union-attr]
    assert name in str(files.facts["resize"])
    with pytest.raises(UserError, match=f"data.crop must be center with {source}"):
        opened(tmp_path, source, crop="stretch")


def test_missing_images(tree: Path, opened: Open) -> None:
    with pytest.raises(
        UserError, match=r"holds 26 images, but 202599 were published; put img_align_celeba\.zip \(1,44"
    ):
        opened(tree, limit=None)
    (tree / "img_align_celeba/000003.jpg").unlink()
    with pytest.raises(UserError, match=r"holds 25 images.*set data\.limit to at most 25"):
        opened(tree)
    assert opened(tree, limit=25).total == 23


def test_a_image_that_is_there_twice(tree: Path, opened: Open) -> None:
    shutil.copytree(tree / "img_align_celeba", tree / "img_align_celeba/img_align_celeba")
    with pytest.raises(UserError, match=r"000001\.jpg is there twice"):
        opened(tree)


def test_images_that_are_not_aligned_are_skipped(tree: Path, opened: Open) -> None:
    Image.new("RGB", (178, 217)).save(tree / "img_align_celeba/000002.jpg")
    skipped = [item for item in opened(tree).stream(1) if isinstance(item, Skipped)]
    assert skipped == [Skipped("000002.jpg", "178 x 217 pixels, not 178 x 218")]
