"""Arrays as sources: no array is read in two ways."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cspipe.ingest.arrays import ArrayImages
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage
from cspipe.runtime.errors import UserError
from cspipe.sources.npz import open_source

Open = Callable[..., ArrayImages]
COLOUR = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), np.uint8)


@pytest.fixture
def opened(settings: Callable[..., DataSettings]) -> Open:
    return lambda path, **values: open_source(settings(source="npz", path=path, **values))


def images(source: ArrayImages) -> dict[int, PreparedImage]:
    """The images of a source by their number in the array."""
    items = [item for item in source.stream(None) if isinstance(item, PreparedImage)]
    return {number: item for (_, number), item in zip(source.numbers, items, strict=True)}


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_layouts(save: Callable[..., None], tmp_path: Path, opened: Open) -> None:
    path = tmp_path / ("x.npy" if save is np.save else "x.npz")
    for array in (COLOUR, COLOUR.transpose(0, 2, 3, 1), np.asfortranarray(COLOUR)):
        save(path, array)
        for number, item in images(opened(path)).items():
            np.testing.assert_array_equal(item.pixels, COLOUR[number])
    for grey in (COLOUR[:, 0], COLOUR[:, :1], COLOUR[:, :1].transpose(0, 2, 3, 1)):
        save(path, grey)
        for number, item in images(opened(path, channels=1)).items():
            np.testing.assert_array_equal(item.pixels, COLOUR[number, :1])
        for number, item in images(opened(path, channels=3)).items():
            np.testing.assert_array_equal(item.pixels, np.repeat(COLOUR[number, :1], 3, axis=0))


def test_split_and_order(tmp_path: Path, opened: Open) -> None:
    """Sorted arrays are common, so neither split may follow the order of the array."""
    np.save(tmp_path / "x.npy", np.repeat(np.arange(200, dtype=np.uint8), 64).reshape(200, 8, 8))
    source = opened(tmp_path / "x.npy", size=8)
    values = [int(item.pixels[0, 0, 0]) for item in source.stream(None) if isinstance(item, PreparedImage)]
    assert sorted(values) == list(range(200))
    assert [split for split, _ in source.numbers] == ["test"] * 50 + ["train"] * 150
    assert abs(np.mean(values[:50]) - 99.5) < 25
    assert abs(np.mean(values[50:100]) - 99.5) < 25
    assert len(opened(tmp_path / "x.npy", limit=20).numbers) == 20


@pytest.mark.parametrize(
    "shape",
    [(32, 32, 3), (3, 32, 32), (32, 32), (8, 3, 32, 3), (8, 4, 4, 4), (8, 3, 3, 3), (8, 32, 32, 2), (8, 1, 1, 1)],
)
def test_unclear_shapes_are_refused(shape: tuple[int, ...], tmp_path: Path, opened: Open) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match="not clearly") as error:
        opened(tmp_path / "x.npy")
    assert str(shape) in str(error.value)


def test_what_is_no_array_of_images(tmp_path: Path, opened: Open) -> None:
    def complaint(name: str) -> str:
        with pytest.raises(UserError) as error:
            opened(tmp_path / name)
        assert name in str(error.value)
        return str(error.value)

    assert "does not exist" in complaint("none.npy")
    np.save(tmp_path / "float.npy", COLOUR / 255)
    assert "float64, not uint8" in complaint("float.npy")
    np.save(tmp_path / "objects.npy", np.array([{}, []], object))
    assert "cannot be read" in complaint("objects.npy")
    np.save(tmp_path / "header.npy", COLOUR)
    (tmp_path / "header.npy").write_bytes((tmp_path / "header.npy").read_bytes().replace(b"{", b"(", 1))
    assert "cannot be read" in complaint("header.npy")
    np.savez(tmp_path / "objects.npz", np.array([{}, []], object))
    assert "cannot be read" in complaint("objects.npz")
    np.savez(tmp_path / "two.npz", images=COLOUR, labels=np.arange(20))
    assert "2 arrays (images.npy, labels.npy)" in complaint("two.npz")
    (tmp_path / "text.npy").write_text("hello")
    assert "cannot be read" in complaint("text.npy")
    (tmp_path / "text.npz").write_text("hello")
    assert "cannot be read" in complaint("text.npz")
    np.save(tmp_path / "cut.npy", COLOUR)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    assert "cannot be read" in complaint("cut.npy")
    np.savez(tmp_path / "one.npz", COLOUR)
    (tmp_path / "renamed.npy").write_bytes((tmp_path / "one.npz").read_bytes())
    assert "an .npz file in its place" in complaint("renamed.npy")
    locked = bytearray((tmp_path / "one.npz").read_bytes())
    locked[6] = locked[locked.index(b"PK\x01\x02") + 8] = 1
    (tmp_path / "locked.npz").write_bytes(locked)
    assert "encrypted" in complaint("locked.npz")
    (tmp_path / "x.mat").write_bytes(b"")
    assert "neither .npy nor .npz" in complaint("x.mat")
    np.save(tmp_path / "empty.npy", COLOUR[:0])
    with pytest.raises(UserError, match="0 images"):
        opened(tmp_path / "empty.npy")
