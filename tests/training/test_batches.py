"""The stream of batches: every image once per pass, the same stream from any start."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cspipe.compute import Device
from cspipe.pixels import normalise, quantise
from cspipe.training.batches import batches, stream_indices
from cspipe.training.draws import draw
from tests.conftest import Pictures

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


def test_batches_resume_in_the_stream(pictures: Pictures) -> None:
    first = list(itertools.islice(batches(pictures, 16, 3, 0, CPU), 4))
    later = list(itertools.islice(batches(pictures, 16, 3, 32, CPU), 2))
    assert torch.equal(torch.stack(first[2:]), torch.stack(later))
    assert torch.equal(first[0], normalise(torch.from_numpy(pictures.pixels[stream_indices(40, 3, 0, 16)])))


def test_pixels_survive_the_way_to_the_net_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert normalise(pixels).min() == -1
    assert normalise(pixels).max() == 1
    assert torch.equal(quantise(normalise(pixels)), pixels)
    assert torch.equal(quantise(torch.tensor([-3.0, 3.0])), torch.tensor([0, 255], dtype=torch.uint8))


def test_draw_depends_on_the_images_seen_alone() -> None:
    x0 = torch.rand(64, 3, 8, 8)
    one, again, other = (draw(x0, 5, seen, 100, True, 0.5) for seen in (640, 640, 704))
    assert torch.equal(one.e, again.e)
    assert torch.equal(one.t, again.t)
    assert not torch.equal(one.e, other.e)


def test_draw_covers_all_steps_and_the_compensated_path_leaves_out_the_first() -> None:
    x0 = torch.rand(4000, 1, 1, 1)
    plain, compensated = draw(x0, 5, 0, 10, False), draw(x0, 5, 0, 10, False, 1.0)
    assert set(plain.t.tolist()) == set(range(1, 11))
    assert set(compensated.t.tolist()) == set(range(2, 11))
    counts = plain.t.bincount(minlength=11)[1:]
    assert counts.min() > 320  # 400 each, standard deviation 19


def test_share_is_met_on_average_and_slices_cover_it() -> None:
    x0 = torch.rand(10, 1, 2, 2)
    taken = [draw(x0, 5, seen, 10, False, 0.25).compensated for seen in range(400)]
    assert set(taken) == {2, 3}
    assert abs(np.mean(taken) - 2.5) < 0.1
    d = draw(x0, 5, 0, 10, False, 0.55)
    assert sum(d.slice(a, a + 2).compensated for a in range(0, 10, 2)) == d.compensated


def test_flip_mirrors_about_half() -> None:
    x0 = torch.rand(400, 1, 2, 2)
    mirrored = (draw(x0, 5, 0, 10, True).x0 == x0.flip(3)).flatten(1).all(1)
    same = (draw(x0, 5, 0, 10, True).x0 == x0).flatten(1).all(1)
    assert (mirrored | same).all()
    assert 150 < mirrored.sum() < 250
