"""The stream of batches: every image once per pass, the same stream from any start."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cspipe.data.pixels import normalise, quantise
from cspipe.runtime.device import Device
from cspipe.training.stream import Batch, TrainingSet, batches, stream_indices
from cspipe.training.train_sample import TrainSampler
from tests.conftest import Images

CPU = Device(torch.device("cpu"), torch.float32, compile=False)


@given(count=st.integers(1, 50), start=st.integers(0, 200), length=st.integers(0, 120))
def test_stream_is_the_same_from_any_start(count: int, start: int, length: int) -> None:
    whole = stream_indices(count, 7, 0, start + length)
    assert np.array_equal(whole[start:], stream_indices(count, 7, start, length))


@given(count=st.integers(1, 50), passes=st.integers(1, 4))
def test_each_pass_has_each_image_once(count: int, passes: int) -> None:
    stream = stream_indices(count, 7, 0, count * passes).reshape(passes, count)
    assert (np.sort(stream, 1) == np.arange(count)).all()


def test_passes_differ_in_order() -> None:
    first, second = stream_indices(50, 7, 0, 100).reshape(2, 50)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, stream_indices(50, 8, 0, 50))


def test_conditions_come_with_their_pictures_and_follow_from_the_place_in_the_stream(images: Images) -> None:
    def conditions(numbers, pixels, seeds):
        assert np.array_equal(pixels, images.pixels[numbers])
        return np.stack([np.full((2, 8, 8), seed % 256, np.uint8) for seed in seeds])

    examples = TrainingSet(images, conditions, 1)
    first = list(itertools.islice(batches(examples, 16, 3, 0, CPU), 6))
    later = list(itertools.islice(batches(examples, 16, 3, 32, CPU), 4))
    assert all(torch.equal(a.condition, b.condition) for a, b in zip(first[2:], later, strict=True))
    drawn = torch.cat([batch.condition[:, 0, 0, 0] for batch in first])
    assert len(drawn.unique()) > 60  # 96 draws of 256 values: a image is told something else in its next pass
    other = next(batches(TrainingSet(images, conditions, 2), 16, 3, 0, CPU))
    assert not torch.equal(other.condition, first[0].condition)


def test_pixels_survive_the_way_to_the_net_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert normalise(pixels).min() == -1
    assert normalise(pixels).max() == 1
    assert torch.equal(quantise(normalise(pixels)), pixels)
    assert torch.equal(quantise(torch.tensor([-3.0, 3.0])), torch.tensor([0, 255], dtype=torch.uint8))


def test_condition_is_mirrored_with_its_picture() -> None:
    x0 = torch.rand(400, 1, 2, 2)
    d = TrainSampler(5, 10, True)(Batch(x0, torch.cat([x0, 1 - x0], 1)), 0)
    assert torch.equal(d.condition, torch.cat([d.x0, 1 - d.x0], 1))
    assert torch.equal(d.slice(3, 7).condition, d.condition[3:7])


def test_flip_mirrors_about_half() -> None:
    x0 = torch.rand(400, 1, 2, 2)
    drawn = TrainSampler(5, 10, True)(Batch(x0, None), 0).x0
    mirrored, same = (drawn == x0.flip(3)).flatten(1).all(1), (drawn == x0).flatten(1).all(1)
    assert (mirrored | same).all()
    assert 150 < mirrored.sum() < 250
