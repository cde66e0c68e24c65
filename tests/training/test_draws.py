"""What is drawn for a step: where images stand, on which way down, and that it all follows from the images seen."""

from __future__ import annotations

import pytest
import torch

from cspipe.training.draws import Draws, Ladder
from cspipe.training.examples import Batch

CPU = torch.device("cpu")
BATCH = Batch(torch.linspace(-1, 1, 4000 * 4).reshape(4000, 1, 2, 2), None)


@pytest.mark.parametrize(("path", "gap"), [(None, 1), (None, 7), (10, 1), (4, 2)])
def test_ways_lie_on_the_samplers_path_and_end_above_zero(path: int | None, gap: int) -> None:
    draws = Draws(0, 100, False, Ladder.of(100, path, gap, CPU))
    d = draws(BATCH, seen=0, share=1.0)
    assert d.way is not None
    assert d.way.shape == (gap + 1, 4000)
    rungs = range(0, 101, 100 // (path or 100))
    places = [[rungs.index(int(step)) for step in column] for column in d.way.T[:50]]
    assert all(a - b == 1 for column in places for a, b in zip(column, column[1:], strict=False))
    assert set(d.way[-1].tolist()) == set(rungs[1 : len(rungs) - gap])  # from the last step above 0 to the highest
    assert torch.equal(d.way[0], d.t)


def test_images_off_the_path_see_every_step() -> None:
    d = Draws(0, 20, False, Ladder.of(20, None, 3, CPU))(BATCH, seen=0, share=0.25)
    assert d.compensated in (1000, 1001)
    assert d.way is not None
    assert d.way.shape[1] == d.compensated
    assert set(d.t[: d.compensated].tolist()) == set(range(4, 21))
    assert set(d.t[d.compensated :].tolist()) == set(range(1, 21))


def test_slices_hold_what_the_whole_holds() -> None:
    draws = Draws(0, 20, True, Ladder.of(20, None, 1, CPU), perturbed=True, noise=True)
    d = draws(BATCH, seen=64, share=0.5)
    parts = [d.slice(start, start + 1000) for start in range(0, 4000, 1000)]
    for name in ("x0", "t", "e", "xi", "z"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(d, name))
    assert sum(part.compensated for part in parts) == d.compensated
    assert d.way is not None
    assert torch.equal(torch.cat([part.way for part in parts if part.way is not None], dim=1), d.way)


def test_noise_of_a_rival_does_not_change_what_the_others_draw() -> None:
    bare, rival = Draws(3, 20, True)(BATCH, 64), Draws(3, 20, True, perturbed=True, noise=True)(BATCH, 64)
    assert bare.xi is None
    assert rival.xi is not None
    assert rival.z is not None
    assert not torch.equal(rival.xi, rival.z)
    for name in ("x0", "t", "e", "recall"):
        assert torch.equal(torch.as_tensor(getattr(bare, name)), torch.as_tensor(getattr(rival, name)))


def test_estimate_is_recalled_in_half_of_the_steps() -> None:
    small = Batch(BATCH.x0[:1], None)
    recalled = [Draws(0, 20, False)(small, seen).recall for seen in range(400)]
    assert 160 < sum(recalled) < 240
