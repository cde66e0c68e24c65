"""What was stopped goes on: the same bytes as without the stop, and nothing is prepared twice."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cspipe.data import shards
from cspipe.ingest import prepare as module
from cspipe.ingest.prepare import prepare
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped, Split
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


def test_faces_go_on_where_they_stopped(settings: Settings) -> None:
    source = module.find_source(settings(paired="glasses"))
    whole = list(source.stream(1))
    for left, item in zip(whole[25:], source.stream(1, 25), strict=True):
        assert isinstance(left, PreparedImage)
        assert isinstance(item, PreparedImage)
        assert item.split == left.split
        np.testing.assert_array_equal(item.pixels, left.pixels)
        np.testing.assert_array_equal(item.paired, left.paired)
