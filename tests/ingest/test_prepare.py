"""The prepared folder: whole, the same every time, and honest about what is not in it."""

import hashlib
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cspipe.data import shards
from cspipe.data.shards import open_split, read_index
from cspipe.ingest import prepare as module
from cspipe.ingest.images import Form
from cspipe.ingest.intake import Intake
from cspipe.ingest.prepare import prepare
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped, divide
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import names_in

Settings = Callable[..., DataSettings]


class Stripes:
    """A source of images of one grey each."""

    facts, stamp = {"licence": "none needed", "resize": "none"}, ""

    def __init__(self, data: DataSettings) -> None:
        self.shape, self.total = (data.channels, data.size, data.size), data.limit or 0
        self.held_out, self.error = data.test_share, None

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage]:
        for split, name in divide(map(str, range(self.total)), self.held_out, None)[start:]:
            yield PreparedImage(split, np.full(self.shape, int(name) % 256, np.uint8))
        if self.error:
            raise self.error


@pytest.fixture
def stripes(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Settings:
    """The data section of this source, which every prepare finds."""
    monkeypatch.setattr(module, "find_source", Stripes)
    return settings


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_faces_are_prepared_the_same_on_any_number_of_processes(tmp_path: Path, settings: Settings) -> None:
    data = settings(limit=160)
    assert prepare(data, tmp_path / "one", tmp_path / "work", workers=1) == 160
    assert prepare(data, tmp_path / "two", tmp_path / "work", workers=2) == 160
    assert prepare(data, tmp_path / "one", tmp_path / "work", workers=1) == 160
    files = hashes(tmp_path / "one")
    assert files == hashes(tmp_path / "two")
    assert files.keys() == {"index.json", "preview.png", "train-00000.npy", "test-00000.npy"}
    index = read_index(tmp_path / "one")
    assert index["splits"]["train"]["shards"] == [
        {"file": "train-00000.npy", "images": 120, "sha256": files["train-00000.npy"]}
    ]
    assert (index["source"], index["style"], index["paired"], index["skipped_count"]) == (
        "avatars",
        "pixel-art",
        "none",
        0,
    )
    train, test = open_split(tmp_path / "one", "train"), open_split(tmp_path / "one", "test")
    assert (len(train), len(test), train.shape, train.paired) == (120, 40, (3, 16, 16), None)
    everything = [*train.gather(np.arange(120)), *test.gather(np.arange(40))]
    assert len({image.tobytes() for image in everything}) == 160


def test_pairs(tmp_path: Path, settings: Settings) -> None:
    prepare(settings(paired="glasses", limit=60), tmp_path / "out", tmp_path / "work", workers=1)
    assert {"train-paired-00000.npy", "test-paired-00000.npy"} <= hashes(tmp_path / "out").keys()
    assert read_index(tmp_path / "out")["paired"] == "glasses"
    train = open_split(tmp_path / "out", "train")
    assert train.paired is not None
    assert len(train) == len(train.paired) == 45
    preview = np.asarray(Image.open(tmp_path / "out/preview.png")).transpose(2, 0, 1)
    first, twin = preview[:, 1:65:4, 1:65:4], preview[:, 1:65:4, 66:130:4]
    np.testing.assert_array_equal(first, train.gather(np.array([0]))[0])
    np.testing.assert_array_equal(twin, train.paired.gather(np.array([0]))[0])


def fill(folder: Path, good: int, bad: int) -> Path:
    """A folder of images, some of which are none."""
    folder.mkdir()
    for number in range(good):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / f"good {number}.png")
    for number in range(bad):
        (folder / f"bad {number}.png").write_text("hello")
    return folder


def test_skipped_images_are_told_once(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    data = settings(source="folder", path=fill(tmp_path / "raw", 20, 110))
    assert prepare(data, tmp_path / "out", tmp_path / "work", workers=1) == 20
    index = read_index(tmp_path / "out")
    assert index["skipped_count"] == 110
    assert len(index["skipped"]) == 100
    assert all("not readable as PNG" in item["reason"] for item in index["skipped"])
    lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(lines) == 1
    assert "110 images skipped" in lines[0]
    assert lines[0].count("not readable as PNG") == 5
    assert "and 105 more" in lines[0]


def test_other_kinds_and_enlarged_images_are_counted(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    data = settings(source="folder", path=fill(tmp_path / "raw", 20, 0), size=16)
    Image.new("RGB", (16, 21)).save(tmp_path / "raw" / "large.png")
    for name in ("a.gif", "b.bmp", "c.GIF"):
        Image.new("RGB", (9, 9)).save(tmp_path / "raw" / name)
    for name in (".DS_Store", "._a.png", "notes", "x.\x1b[2J"):
        (tmp_path / "raw" / name).touch()
    for attempt in ("first", "second"):
        assert prepare(data, tmp_path / attempt, tmp_path / "work", workers=1) == 21
        told = capsys.readouterr().err
        index = read_index(tmp_path / attempt)
        assert index["other_kinds"] == r"2 hidden, 2 GIF, 1 BMP, 1 without an ending, 1 \x1b[2J"
        assert index["other_kinds"] in told
        assert re.search(r"\b20 images enlarged", told)
        assert index["enlarged"] == 20


def test_names_and_reasons_of_skipped_images_command_no_terminal(tmp_path: Path) -> None:
    intake = Intake(tmp_path, Form(8, 3, "center"))
    intake.add(Skipped("a\x1b[2J\n\udcff.png", "its other half \x1b]0;b\x07.png: empty file"))
    assert intake.summary().isprintable()
    assert intake.skipped == [Skipped(r"a\x1b[2J\n\udcff.png", r"its other half \x1b]0;b\x07.png: empty file")]


def test_splits_without_images_are_refused(tmp_path: Path, settings: Settings) -> None:
    data = settings(source="folder", path=fill(tmp_path / "raw", 0, 7))
    with pytest.raises(UserError, match=r"train split; 7 images skipped .*not readable as PNG"):
        prepare(data, tmp_path / "out", tmp_path / "work", workers=1)
    with pytest.raises(UserError, match="leaves the test split empty"):
        prepare(settings(limit=1), tmp_path / "out", tmp_path / "work", workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "work"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), UserError("x")])
def test_what_was_there_stays_when_something_stops_it(
    error: BaseException, tmp_path: Path, stripes: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(stripes(), tmp_path / "out/prepared", tmp_path / "work")
    before = hashes(tmp_path / "out/prepared")
    broken = Stripes(stripes(limit=30))
    broken.error = error
    monkeypatch.setattr(module, "find_source", lambda data: broken)
    with pytest.raises(type(error)):
        prepare(stripes(limit=30), tmp_path / "out/prepared", tmp_path / "work")
    assert hashes(tmp_path / "out/prepared") == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["prepared"]


def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, stripes: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2**18)
    data = stripes(limit=8000, size=32, held_out=0.1)
    tracemalloc.start()
    prepare(data, tmp_path / "out", tmp_path / "work")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    written = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.npy"))
    assert written > 8000 * 3 * 32 * 32
    assert peak < written / 4
    values = open_split(tmp_path / "out", "train").gather(np.arange(7200))[:, 0, 0, 0]
    assert len(np.unique(values)) == 256


def test_workers_do_not_import_torch_or_the_parameters() -> None:
    names = [*(f"sources.{name}" for name in names_in("cspipe.sources")), "ingest.parallel", "data.shards"]
    imports = "; ".join(f"import cspipe.{name}" for name in names)
    command = f"import sys; {imports}; import cspipe.stages.prepare; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert not {"torch", "cspipe.config.params", "rich"} & set(run.stdout.split())
