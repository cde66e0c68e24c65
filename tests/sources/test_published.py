"""Data sets of a published size: FFHQ and CelebA-HQ, as folders and zips, and what people have besides."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cspipe.ingest.files import Files
from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.ingest.source import PreparedImage, Skipped
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import find
from cspipe.sources import celebahq256_occluded, ffhq256
from tests.sources.test_folder import fill, image, pack

Open = Callable[..., Files]
FFHQ = [f"{number // 1000 * 1000:05}/{number:05}.png" for number in (*range(20), *range(69_990, 70_000))]
CELEBAHQ = [f"{number}.jpg" for number in range(30)]
SETS = [("ffhq256", FFHQ, 70_000), ("celebahq256", CELEBAHQ, 30_000), ("celebahq256_occluded", CELEBAHQ, 30_000)]
every_set = pytest.mark.parametrize(("source", "names", "published"), SETS)


@pytest.fixture
def opened(settings: Callable[..., DataSettings]) -> Open:
    """Open a folder or zip as a source; at most 30 images, as many as the fixtures have."""

    def opened(source: str, path: Path, **values: object) -> Files:
        data = settings(**{"source": source, "path": path, "limit": 30, **values})
        return find(SOURCES, source, "open_source")(data)  # type: ignore[no-any-return]

    return opened


def pixels(files: Files, workers: int = 1) -> list[bytes]:
    return [item.pixels.tobytes() for item in files.stream(workers) if isinstance(item, PreparedImage)]


@every_set
def test_folder_and_zip(source: str, names: list[str], published: int, tmp_path: Path, opened: Open) -> None:
    folder = fill(tmp_path / "images", names)
    (folder / "LICENSE.txt").write_text("licence")
    files = opened(source, folder)
    assert (files.total, files.facts["other_files"]) == (30, 1)
    assert len(set(pixels(files))) == 30
    archive = pack(tmp_path / "images.zip", {name: (folder / name).read_bytes() for name in names})
    assert pixels(opened(source, archive), workers=2) == pixels(files)
    assert [item.split for item in files.stream(1, 5) if isinstance(item, PreparedImage)] == [
        s for s, _ in files.names[5:]
    ]


@every_set
def test_fewer_images_than_published(
    source: str, names: list[str], published: int, tmp_path: Path, opened: Open
) -> None:
    folder = fill(tmp_path / "images", names)
    for limit in (None, 31):
        with pytest.raises(UserError) as error:
            opened(source, folder, limit=limit)
        assert f"data.path {folder} holds 30 images, but {published} were published; put the" in str(error.value)
        assert "set data.limit to at most 30" in str(error.value)


def test_more_images_than_published(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thumbnails beside the images, for instance."""
    monkeypatch.setattr(ffhq256, "PUBLISHED", replace(ffhq256.PUBLISHED, images=30))
    folder = fill(tmp_path / "ffhq", [f"images1024x1024/{name}" for name in FFHQ])
    assert opened("ffhq256", folder, limit=None).total == 30
    fill(folder, ["thumbnails128x128/00000/00000.png"])
    with pytest.raises(UserError, match=r"holds 31 images, but 30 were published.*one release alone"):
        opened("ffhq256", folder, limit=None)


def test_hashes_of_ffhq_are_compared_where_they_lie_beside(tmp_path: Path, opened: Open) -> None:
    folder = fill(tmp_path / "ffhq", [f"images1024x1024/{name}" for name in FFHQ])
    md5s = {name: hashlib.md5((folder / f"images1024x1024/{name}").read_bytes()).hexdigest() for name in FFHQ}
    entries = {
        str(i): {"image": {"file_path": f"images1024x1024/{name}", "file_md5": md5}, "thumbnail": {"file_md5": "0"}}
        for i, (name, md5) in enumerate(md5s.items())
    }
    (folder / "ffhq-dataset-v2.json").write_text(json.dumps(entries))
    files = opened("ffhq256", folder)
    assert "ffhq-dataset-v2.json" in str(files.facts["hashes"])
    assert len(pixels(files, workers=2)) == 30
    other = folder / f"images1024x1024/{FFHQ[3]}"
    other.write_bytes((folder / f"images1024x1024/{FFHQ[4]}").read_bytes())
    skipped = [item for item in opened("ffhq256", folder).stream(1) if isinstance(item, Skipped)]
    assert [(item.name.endswith(FFHQ[3]), "md5 is not that of" in item.reason) for item in skipped] == [(True, True)]
    (folder / "ffhq-dataset-v2.json").write_text("[1]")
    with pytest.raises(UserError, match="not FFHQ's list of files"):
        opened("ffhq256", folder)


@pytest.mark.parametrize("source", ["ffhq256", "celebahq256"])
@pytest.mark.parametrize("file", ["data.mdb", "ffhq-r08.tfrecords", "celebahq.tfrecord-00000-of-00010"])
def test_other_containers_are_answered_with_their_conversion(
    source: str, file: str, tmp_path: Path, opened: Open
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / file).write_bytes(b"\0" * 100)
    pack(tmp_path / "set.zip", {file: b"\0" * 100, "preview.png": image(1)})
    for path in (tmp_path / "set", tmp_path / "set" / file, tmp_path / "set.zip"):
        with pytest.raises(UserError, match=file) as error:
            opened(source, path, limit=None)
        assert "data/raw/README.md" in str(error.value)
    fill(tmp_path / "set", CELEBAHQ)
    with pytest.raises(UserError, match=file):
        opened(source, tmp_path / "set", limit=None)


def test_occluded_faces_follow_from_their_names(tmp_path: Path, opened: Open) -> None:
    folder = fill(tmp_path / "images", CELEBAHQ)
    files = opened("celebahq256_occluded", folder, size=64)
    pairs = {name: item for (_, name), item in zip(files.names, files.stream(1), strict=True)}
    again = opened("celebahq256_occluded", folder, size=64, limit=10)
    for (_, name), item in zip(again.names, again.stream(2), strict=True):
        first = pairs[name]
        assert isinstance(item, PreparedImage)
        assert isinstance(first, PreparedImage)
        assert item.paired is not None
        assert first.paired is not None
        np.testing.assert_array_equal(item.pixels, first.pixels)
        np.testing.assert_array_equal(item.paired, first.paired)
        changed = (item.paired != item.pixels).any(axis=0).mean()
        assert 0 < changed < 0.9
    kinds = celebahq256_occluded.KINDS
    assert all(kind in str(files.facts["paired"]) for kind in kinds)
    drawn = {
        item.paired.tobytes() for item in pairs.values() if isinstance(item, PreparedImage) and item.paired is not None
    }
    assert len(drawn) == 30
