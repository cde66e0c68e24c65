"""What was stopped goes on: the same bytes as without the stop, and nothing is prepared twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cspipe.data import shards
from cspipe.ingest import prepare as module
from cspipe.ingest.prepare import prepare
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped, Split
from tests.conftest import ROOT, Tree, change
from tests.ingest.test_prepare import hashes

Settings = Callable[..., DataSettings]
COUNT = 100


class Stops(Exception):
    """Stands for whatever ends a process."""


class Pairs:
    """A source of pairs of one colour, every tenth of them bad, that stops after some items."""

    facts, total = {"licence": "none needed", "resize": "none", "paired": "darker"}, COUNT

    def __init__(self) -> None:
        self.stamp, self.stop_after, self.starts = "a", COUNT, list[int]()

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        self.starts.append(start)
        for number in range(start, COUNT):
            if number == self.stop_after:
                raise Stops
            split: Split = "test" if number < 30 else "train"
            pixels = np.full((3, 16, 16), number, np.uint8)
            yield Skipped(str(number), "bad") if number % 10 == 9 else PreparedImage(split, pixels, pixels // 2)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Pairs:
    """The source that every prepare finds; shards hold eight images."""
    source = Pairs()
    monkeypatch.setattr(module, "find_source", lambda data: source)
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 * 768)
    return source


@pytest.fixture
def whole(pairs: Pairs, settings: Settings, tmp_path: Path) -> dict[str, str]:
    """The files that a prepare without a stop makes."""
    prepare(settings(), tmp_path / "whole", tmp_path / "whole-work")
    pairs.starts.clear()
    return hashes(tmp_path / "whole")


def test_stops_change_nothing(whole: dict[str, str], pairs: Pairs, settings: Settings, tmp_path: Path) -> None:
    for pairs.stop_after in (5, 20, 21, 64, 99):
        with pytest.raises(Stops):
            prepare(settings(), tmp_path / "out", tmp_path / "work")
        assert not (tmp_path / "out").exists()
    pairs.stop_after = COUNT
    assert prepare(settings(), tmp_path / "out", tmp_path / "work") == 90
    assert pairs.starts == [0, 0, 16, 16, 64, 96]
    assert hashes(tmp_path / "out") == whole
    assert not list((tmp_path / "work").iterdir())


def test_a_stop_while_the_result_is_put_in_place(
    whole: dict[str, str], pairs: Pairs, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "preview", stop)
        with pytest.raises(Stops):
            prepare(settings(), tmp_path / "out", tmp_path / "work")
    prepare(settings(), tmp_path / "out", tmp_path / "work")
    assert pairs.starts == [0, COUNT]
    assert hashes(tmp_path / "out") == whole


def stop(train: shards.Shards) -> None:
    """Instead of the preview."""
    raise Stops


def test_disks_without_hard_links(
    whole: dict[str, str], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    prepare(settings(), tmp_path / "out", tmp_path / "work")
    assert hashes(tmp_path / "out") == whole


@pytest.mark.parametrize("damage", ["shard", "missing", "progress"])
def test_damaged_work_is_done_again(
    damage: str,
    whole: dict[str, str],
    pairs: Pairs,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs.stop_after = 50
    with pytest.raises(Stops):
        prepare(settings(), tmp_path / "out", tmp_path / "work")
    (folder,) = (tmp_path / "work").iterdir()
    shard = folder / "test-00001.npy"
    if damage == "shard":
        shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    elif damage == "missing":
        shard.unlink()
    else:
        (folder / "progress.json").write_text("{}")
    pairs.stop_after = COUNT
    prepare(settings(), tmp_path / "out", tmp_path / "work")
    assert pairs.starts == [0, 0]
    assert "starting anew" in capsys.readouterr().err
    assert hashes(tmp_path / "out") == whole


def test_other_data_starts_anew_and_leaves_nothing_behind(pairs: Pairs, settings: Settings, tmp_path: Path) -> None:
    pairs.stop_after = 50
    for stamp, values in (("a", {}), ("b", {}), ("b", {"limit": 39})):
        pairs.stamp = stamp
        with pytest.raises(Stops):
            prepare(settings(**values), tmp_path / "out", tmp_path / "work")
        assert len(list((tmp_path / "work").iterdir())) == 1
    assert pairs.starts == [0, 0, 0]


def raw(folder: Path, names: int) -> None:
    """Images that take a while to decode: ten files of noise under many names."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(10):
        image = Image.fromarray(noise.integers(0, 256, (900, 900, 3), np.uint8))
        image.save(folder / f"{number:03}.png", compress_level=1)
    for number in range(10, names):
        (folder / f"{number:03}.png").hardlink_to(folder / f"{number % 10:03}.png")


def items(folder: Path) -> int:
    """How far the work in a folder has come, in images."""
    files = list((folder / ".cspipe/states/prepare").glob("*/progress.json"))
    return int(json.loads(files[0].read_text())["items"]) if files else 0


def test_killed_commands_go_on_and_give_the_same_bytes(tmp_path: Path, demo: Tree, settings: Settings) -> None:
    """SIGKILL, then SIGTERM, each after a further block of 85 images; the shards of the first are not made again."""
    raw(tmp_path / "data/raw/mine", 330)
    values = {"source": "folder", "path": "data/raw/mine", "size": 512, "limit": None, "held_out": 0.25}
    params = change(demo, {"model.attention": [], **{f"data.{key}": value for key, value in values.items()}})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command, environment = [sys.executable, "-m", "cspipe.stages.prepare"], {**os.environ, "PYTHONPATH": str(ROOT)}
    for after, number, status in ((0, signal.SIGKILL, -9), (85, signal.SIGTERM, 75)):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        while items(tmp_path) <= after:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == status, errors
        assert not (tmp_path / "data/prepared").exists()
    (first,) = (tmp_path / ".cspipe/states/prepare").glob("*/test-00000.npy")
    inode = first.stat().st_ino
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "data/prepared/test-00000.npy").stat().st_ino == inode
    data = settings(**{**values, "path": tmp_path / "data/raw/mine"})
    prepare(data, tmp_path / "whole", tmp_path / "whole-work", workers=1)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "data/prepared")


@pytest.mark.parametrize("values", [{"paired": "glasses"}, {}])
def test_faces_go_on_where_they_stopped(values: dict[str, str], settings: Settings) -> None:
    source = module.find_source(settings(**values))
    whole = list(source.stream(1))
    for left, item in zip(whole[25:], source.stream(1, 25), strict=True):
        assert isinstance(left, PreparedImage)
        assert isinstance(item, PreparedImage)
        assert item.split == left.split
        np.testing.assert_array_equal(item.pixels, left.pixels)
