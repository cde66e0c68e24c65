"""A net under images of any size. Nets here are functions, so that what they see and what they make is known."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cspipe.cli.own_image import apply, square_around
from cspipe.data.pixels import normalise
from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.sampling.batches import Corrected, Sampler
from cspipe.sampling.state import find_step

SIZE = 8
CPU = Device(torch.device("cpu"), torch.float32, False)


@dataclass
class Painter:
    """A net that sees `colour` in every x_t, or, if there is none, what x_t itself looks like."""

    colour: int | None = 200
    seen: list[Tensor | None] = field(default_factory=list)

    def __call__(self, condition: Tensor | None) -> Corrected:
        self.seen.append(condition)
        if self.colour is None:
            return lambda x_t, t: x_t.tanh(), None
        painted = normalise(torch.tensor(self.colour))
        return lambda x_t, t: torch.full_like(x_t, float(painted)), None


def sampler(net: Painter, channels: int = 3, fills: bool = True, rounds: int | None = None) -> Sampler:
    shape = (channels, SIZE, SIZE)
    schedule = cosine_schedule(10).to(torch.device("cpu"))
    return Sampler(net, schedule, shape, find_step("ddim"), evenly_spaced(10, 4), 0.0, CPU, fills, rounds)


def noise(channels: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (channels, height, width), np.uint8)


def box(height: int, width: int, top: int, left: int, side: int) -> NDArray[np.bool_]:
    hole = np.zeros((height, width), np.bool_)
    hole[top : top + side, left : left + side] = True
    return hole


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.sampled_from([1, 3]),
    st.sampled_from([None, 2]), st.data(),
)  # fmt: skip
def test_known_pixels_stay_and_the_hole_is_filled_at_every_size(
    height: int, width: int, of_image: int, of_net: int, rounds: int | None, data: st.DataObject
) -> None:
    side = data.draw(st.integers(1, min(height, width)))
    top, left = data.draw(st.integers(0, height - side)), data.draw(st.integers(0, width - side))
    image, hole = noise(of_image, height, width), box(height, width, top, left, side)
    filled = apply(image, hole, sampler(Painter(200), of_net, rounds=rounds), seed=1)
    assert filled.shape == image.shape
    assert filled.dtype == np.uint8
    assert (filled[:, ~hole] == image[:, ~hole]).all()
    if side == height == width:
        assert (filled == 200).all()


@pytest.mark.parametrize("size", [8, 20, 5])
def test_what_lies_in_the_hole_is_not_seen(size: int) -> None:
    hole = box(size, size, 1, 2, 3)
    one = noise(3, size, size)
    other = np.where(hole, noise(3, size, size, seed=1), one)
    nets = Painter(None), Painter(None)
    filled = [apply(image, hole, sampler(net), seed=1) for image, net in zip((one, other), nets, strict=True)]
    assert (filled[0] == filled[1]).all()
    first, second = nets[0].seen[0], nets[1].seen[0]
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


@pytest.mark.parametrize(("start", "stop", "pixels"), [(33, 48, 2), (30, 50, 2), (20, 60, 4), (39, 51, 3)])
def test_beside_a_hole_the_net_sees_the_known_colour(start: int, stop: int, pixels: int) -> None:
    """A white scribble on black, to be taken away: bicubic reduction alone would leave a grey seam around it.

    `pixels` of the net, of 10 x 10 each, are touched by the hole.
    """
    hole = box(80, 80, start, start, stop - start)
    net = Painter()
    apply(np.where(hole, 255, np.zeros((3, 80, 80), np.uint8)).astype(np.uint8), hole, sampler(net), seed=1)
    assert net.seen[0] is not None
    known = net.seen[0][0, -1] < 0
    assert (net.seen[0][0, :3, known] == -1).all()
    assert (~known).sum() == pixels**2


def test_the_square_is_in_the_middle_but_goes_where_the_hole_is() -> None:
    wide = noise(3, 20, 50)
    assert square_around(wide, None) == (slice(0, 20), slice(15, 35))
    assert square_around(wide, box(20, 50, 3, 20, 5)) == (slice(0, 20), slice(15, 35))
    assert square_around(wide, box(20, 50, 3, 0, 5)) == (slice(0, 20), slice(0, 20))
    assert square_around(wide, box(20, 50, 3, 40, 5)) == (slice(0, 20), slice(25, 45))
    assert square_around(noise(3, 50, 20), box(50, 20, 45, 3, 5)) == (slice(30, 50), slice(0, 20))


def test_a_hole_that_no_square_contains_and_a_mask_of_another_size_are_refused() -> None:
    hole = box(20, 50, 3, 0, 5) | box(20, 50, 3, 30, 5)
    for image, mask, problem in (
        (noise(3, 20, 50), hole, "35 pixels wide, .* 20"),
        (noise(3, 50, 20), hole.T, "35 pixels high"),
        (noise(3, 20, 50), hole.T, "20 x 50 pixels, .* 50 x 20"),
    ):
        with pytest.raises(UserError, match=problem):
            apply(image, mask, sampler(Painter()), seed=1)


def test_without_a_hole_nothing_is_done() -> None:
    net, image = Painter(), noise(3, 20, 50)
    assert (apply(image, np.zeros((20, 50), np.bool_), sampler(net), seed=1) == image).all()
    assert net.seen == []


def test_the_seed_decides() -> None:
    image, hole = noise(3, 20, 20), box(20, 20, 4, 4, 12)
    first, again, other = (apply(image, hole, sampler(Painter(None)), seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(3, 20, 50), (1, 50, 20), (3, 8, 8), (3, 3, 7)])
def test_deocclusion_replaces_the_middle_square_and_keeps_the_rest(shape: tuple[int, int, int]) -> None:
    image, net = noise(*shape), Painter(200)
    clean = apply(image, None, sampler(net, fills=False), seed=1)
    rows, columns = square_around(image, None)
    assert (clean[:, rows, columns] == 200).all()
    rest = np.ones(shape[1:], np.bool_)
    rest[rows, columns] = False
    assert (clean[:, rest] == image[:, rest]).all()
    assert net.seen[0] is not None
    assert net.seen[0].shape == (1, 3, SIZE, SIZE)
    if shape[1:] == (SIZE, SIZE):
        assert torch.equal(net.seen[0][0], normalise(torch.from_numpy(image)))
