"""Truncated files and flipped bits: each is named and refused, or recovered from; never another result."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from cspipe.data.shards import INDEX
from cspipe.runtime.ends import End
from cspipe.sampling.batches import _kept
from tests.faults.conftest import Before
from tests.faults.workspace import Stage, hashes, refused, run, start, stop_half_way

pytestmark = pytest.mark.slow
FLIPS, HEAD = 12, 2048
"""Flipped bits per kind of file, and bytes that hold its description."""
TRAIN, COMPENSATE, SAMPLE, EVALUATE = ("train",), ("compensate",), ("sample", "cs-10"), ("evaluate", "cs-10")


def truncated(content: bytes, number: int, count: int) -> bytes:
    """Cut at the number-th of so many equal parts."""
    return content[: len(content) * number // count]


def flipped(content: bytes, chance: random.Random) -> bytes:
    """With one bit changed."""
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def variants(content: bytes, cuts: int) -> list[bytes]:
    """The content truncated at each of so many parts, and with a bit flipped."""
    chance = random.Random(0)
    cut = [truncated(content, number, cuts) for number in range(cuts)]
    return cut + [flipped(content, chance) for _ in range(FLIPS)]


def replaced(path: Path, content: bytes) -> None:
    """Other bytes under the same name; what is linked to the file keeps its own."""
    path.unlink()
    path.write_bytes(content)


def same_as(undisturbed: Path, folder: Path, but: str = "") -> bool:
    """Whether every output there is as in the undisturbed run, but the file that was damaged."""
    made, expected = hashes(folder), hashes(undisturbed)
    return all(md5 == expected[name] for name, md5 in made.items() if name != but)


@pytest.mark.parametrize(
    ("stage", "pattern", "kept", "cuts"),
    [(TRAIN, "*.pt", 4, 100), (COMPENSATE, "*.pt", 3, 10), (SAMPLE, "*.npz", 3, 10)],
)
def test_damaged_states_are_named_and_cost_nothing_but_time(
    stage: Stage, pattern: str, kept: int, cuts: int, before: Before, undisturbed: Path
) -> None:
    """The newest state is damaged, and in every tenth run all of them are."""
    seen: set[Path] = set()

    def half(states: Path) -> bool:
        seen.update(states.glob(f"{stage[0]}/*/{pattern}"))
        return len(seen) >= kept

    stopped = stop_half_way(before("stopped", stage), stage, half)
    (states,) = (stopped / ".cspipe/states" / stage[0]).glob("*/")
    files = sorted(states.glob(pattern))
    damaged, named = variants(files[-1].read_bytes(), cuts), 0
    for number, content in enumerate(damaged):
        folder = Path(shutil.copytree(stopped, stopped.parent / "again"))
        hit = files if number % 10 == 0 else files[-1:]
        for file in hit:
            replaced(folder / file.relative_to(stopped), content)
        told = run(folder, stage).told
        is_named = all(f"{file.name}: " in told for file in hit)
        assert is_named or pattern == "*.npz", told  # a zip has bits that mean nothing, such as a date
        named += is_named
        assert same_as(undisturbed, folder), told
        shutil.rmtree(folder)
    print(f"damaged states of {stage[0]}: {cuts} cuts, {FLIPS} flips; {named} named; other results: 0")


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        (TRAIN, "data/prepared/train-00000.npy"),
        (EVALUATE, "data/prepared/test-00000.npy"),
        (TRAIN, "data/prepared/index.json"),
        (SAMPLE, "models/main/model.safetensors"),
        (SAMPLE, "models/compensation/model.safetensors"),
        (EVALUATE, "samples/cs-10/samples.npy"),
    ],
)
def test_damaged_inputs_are_refused_by_name(stage: Stage, file: str, before: Before, undisturbed: Path) -> None:
    folder = before("damaged", stage)
    there = hashes(folder)
    whole = (folder / file).read_bytes()
    head, chance = min(HEAD, len(whole)), random.Random(1)
    contents = variants(whole, 6) + [flipped(whole[:head], chance) + whole[head:] for _ in range(FLIPS)]
    harmless = 0
    for content in contents:
        replaced(folder / file, content)
        started = start(folder, stage)
        if file.endswith(INDEX) and started.end() == 0:  # a letter of a licence, say
            harmless += 1
            assert same_as(undisturbed, folder, file), started.told
            shutil.rmtree(folder)
            folder = before("damaged", stage)
        else:
            refused(started, End.FAILED, str(Path(file).parent))
            assert {**hashes(folder), file: ""} == {**there, file: ""}, "half a result"
    flips = f"{2 * FLIPS} flips, half of them in its head"
    print(f"damaged {file}: 6 cuts, {flips}; refused {len(contents) - harmless}, harmless {harmless}, others 0")


def test_damaged_features_are_made_again(before: Before, undisturbed: Path) -> None:
    """The damaged file stands there alone: what is made of several would keep the stage from reading them."""
    folder, chance = before("features", EVALUATE), random.Random(1)
    run(folder, EVALUATE)
    kept = {path: path.read_bytes() for path in (folder / ".cspipe/features").iterdir()}
    for number in range(FLIPS):
        for path in kept:
            path.unlink()
        path = chance.choice(sorted(kept))
        path.write_bytes(flipped(kept[path], chance) if number % 2 else truncated(kept[path], number, FLIPS))
        told = run(folder, EVALUATE).told
        assert path.name in told, told
        assert same_as(undisturbed, folder), told
    print(f"damaged features: {FLIPS // 2} cuts, {FLIPS // 2} flips; all named; other results: 0")


def test_every_bit_of_a_kept_batch(tmp_path: Path) -> None:
    """It is refused, or means nothing."""
    path, images = tmp_path / "batch.npz", np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8)
    np.savez(path, images=images, variances=np.arange(6.0))
    content, refused_bits = path.read_bytes(), 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        kept = _kept(path)
        refused_bits += kept is None
        assert kept is None or (np.array_equal(kept.images, images) and np.array_equal(kept.variances, np.arange(6)))
    print(f"every bit of a kept batch: {8 * len(content)} flips, {refused_bits} refused; other images: 0")
