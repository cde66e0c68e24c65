"""Pairs in two folders, and files that are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspipe.ingest.files import Files
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped
from cspipe.runtime.errors import UserError
from cspipe.sources.fsg import open_source
from tests.sources.test_folder import image, pack

Open = Callable[..., Files]


@pytest.fixture
def opened(settings: Callable[..., DataSettings]) -> Open:
    return lambda path, **values: open_source(settings(source="fsg", path=path, **values))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Twelve pairs; the red of a clean image is its number, of an occluded one 100 more."""
    for half, base, suffix in (("clean", 0, "jpg"), ("occluded", 100, "png")):
        (tmp_path / f"fsg/{half}/a").mkdir(parents=True)
        for number in range(12):
            content = image(base + number, "PNG", (20, 16) if half == "clean" else (40, 32))
            (tmp_path / f"fsg/{half}/a/{number:03}.{suffix}").write_bytes(content)
    return tmp_path / "fsg"


def items(files: Files) -> tuple[list[PreparedImage], list[Skipped]]:
    """The images of a source, and what it skips."""
    found = list(files.stream(1))
    images = [item for item in found if isinstance(item, PreparedImage)]
    return images, [item for item in found if isinstance(item, Skipped)]


def test_pairs_are_matched_by_name(tree: Path, opened: Open) -> None:
    files = opened(tree)
    images, skipped = items(files)
    assert (len(images), skipped, files.facts["paired"]) == (12, [], "occluded")
    assert [item.split for item in images].count("test") == 3
    assert not any(item.enlarged for item in images)
    assert all(item.enlarged for item in items(opened(tree, size=32))[0])
    for (_, name), item in zip(files.names, images, strict=True):
        assert item.paired is not None
        assert int(item.pixels[0, 0, 0]) == int(Path(name).stem)
        assert (item.paired[0] == 100 + item.pixels[0]).all()
    members = {str(file.relative_to(tree)): file.read_bytes() for file in tree.rglob("*.*")}
    packed, _ = items(opened(pack(tree.parent / "fsg.zip", members)))
    for item, other in zip(packed, images, strict=True):
        np.testing.assert_array_equal(item.pixels, other.pixels)
        np.testing.assert_array_equal(item.paired, other.paired)


def test_files_without_a_partner_are_skipped_and_named(tree: Path, opened: Open) -> None:
    (tree / "clean/alone.png").write_bytes(image(1))
    (tree / "occluded/other.png").write_bytes(image(1))
    for limit, pairs in ((None, 12), (4, 4)):
        images, skipped = items(opened(tree, limit=limit))
        assert len(images) == pairs
        reason = "not in clean/ and occluded/ both"
        assert skipped == [Skipped("clean/alone.png", reason), Skipped("occluded/other.png", reason)]


def test_two_images_of_one_name_are_refused(tree: Path, opened: Open) -> None:
    (tree / "occluded/a/003.jpg").write_bytes(image(1))
    with pytest.raises(UserError, match=r"occluded/a/003\.jpg and occluded/a/003\.png have the same name"):
        opened(tree)


def test_a_pair_with_a_bad_half_is_skipped(tree: Path, opened: Open) -> None:
    (tree / "occluded/a/003.png").write_text("hello")
    Image.new("RGB", (20, 20)).save(tree / "occluded/a/004.png")
    images, skipped = items(opened(tree))
    assert len(images) == 10
    reasons = {item.name: item.reason for item in skipped}
    assert "its other half occluded/a/003.png: not readable" in reasons["clean/a/003.jpg"]
    assert "not one shape" in reasons["clean/a/004.jpg"]


def test_what_it_expects_is_told(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "unpaired/clean").mkdir(parents=True)
    (tmp_path / "unpaired/clean/1.png").write_bytes(image(1))
    for name, problem in (("nowhere", "does not exist"), ("unpaired", "1 clean and 0 occluded images, but no pair")):
        with pytest.raises(UserError, match=problem) as error:
            opened(tmp_path / name)
        assert "occluded/0001.png and clean/0001.png" in str(error.value)
        assert "celebahq256_occluded" in str(error.value)


def test_pairs_of_another_format_are_told(tree: Path, opened: Open) -> None:
    for half in ("clean", "occluded"):
        (tree / half / "a" / "900.gif").touch()
    assert opened(tree).facts["other_kinds"] == "2 GIF"
