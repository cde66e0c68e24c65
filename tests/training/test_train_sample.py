"""What is drawn for a step: the timesteps of each image, and that it all follows from the images seen."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cspipe.diffusion.schedule import Schedule, cosine_schedule, karras_schedule
from cspipe.runtime.ranks import LAUNCHER
from cspipe.training.stream import Batch
from cspipe.training.timesteps import TimestepPath, lognormal
from cspipe.training.train_sample import TrainSampler

CPU = torch.device("cpu")
BATCH = Batch(torch.linspace(-1, 1, 4000 * 4).reshape(4000, 1, 2, 2), None)


@pytest.mark.parametrize(("path", "gap"), [(None, 1), (None, 7), (10, 1), (4, 2)])
def test_timesteps_lie_on_the_samplers_path_and_end_above_zero(path: int | None, gap: int) -> None:
    draws = TrainSampler(0, 100, False, TimestepPath.of(100, path, gap, 100, CPU))
    d = draws(BATCH, seen=0, share=1.0)
    assert d.timesteps is not None
    assert d.timesteps.shape == (gap + 1, d.on_method)
    assert d.on_method == pytest.approx(4000 * (1 - gap / (path or 100)), abs=1)
    path_steps = range(0, 101, 100 // (path or 100))
    places = [[path_steps.index(int(step)) for step in column] for column in d.timesteps.T[:50]]
    assert all(a - b == 1 for column in places for a, b in zip(column, column[1:], strict=False))
    last = path_steps[1 : len(path_steps) - gap]  # from the last step above 0 to the highest
    assert set(d.timesteps[-1].tolist()) == set(last)
    assert torch.equal(d.timesteps[0], d.t[: d.on_method])
    assert set(d.t[d.on_method :].tolist()) == set(path_steps[-gap:]), "where no step ends, images stay plain"


@pytest.mark.parametrize(("path", "gap", "share"), [(None, 1, 0.0), (None, 3, 0.6), (5, 2, 0.5)])
@pytest.mark.parametrize("t_max", [20, 13])
def test_every_timestep_up_to_t_max_is_trained_as_often(path: int | None, gap: int, share: float, t_max: int) -> None:
    """T, where sampling starts, among them; in batches so small that few have an image there.

    The estimates that steps end from may be of states above t_max.
    """
    draws = TrainSampler(0, t_max, False, TimestepPath.of(20, path, gap, t_max, CPU))
    batch, counts = Batch(torch.zeros(8, 1, 1, 1), None), torch.zeros(21)
    for number in range(900):
        d = draws(batch, 8 * number, share)
        ends = d.t if d.timesteps is None else torch.cat([d.timesteps[-1], d.t[d.on_method :]])
        counts += torch.bincount(ends, minlength=21)
    on_path = [t for t in range(1, t_max + 1) if path is None or t % 4 == 0]
    expected = torch.cat([(1 - share) * torch.full((t_max,), 1 / t_max), torch.zeros(20 - t_max)])
    expected[[t - 1 for t in on_path]] += share / len(on_path)
    assert torch.allclose(counts[1:] / 7200, expected, atol=0.015)
    assert counts[t_max + 1 :].sum() == 0


@pytest.mark.parametrize(("path", "gap", "share"), [(None, 1, 0.0), (None, 1, 1.0), (None, 3, 0.6), (20, 2, 0.5)])
@pytest.mark.parametrize("t_max", [40, 33])
@pytest.mark.parametrize("make", [karras_schedule, cosine_schedule])
def test_lognormal_timesteps_are_edms_noise_levels_to_the_nearest(
    make: Callable[[int], Schedule], path: int | None, gap: int, share: float, t_max: int
) -> None:
    """Cosine has levels so far apart that the highest ones trained matter, and t_max 33 is not on the path."""
    schedule = make(40)
    sigma = (schedule.sqrt_one_minus_alpha_bar / schedule.sqrt_alpha_bar)[1 : t_max + 1]
    drawn = np.exp(np.random.default_rng(0).normal(-1.2, 1.2, 40_000))
    expected = np.bincount(np.abs(np.log(drawn[:, None]) - sigma.log().numpy()).argmin(1), minlength=t_max) / 40_000
    cumulative = lognormal(schedule, t_max)
    draws = TrainSampler(0, t_max, False, TimestepPath.of(40, path, gap, t_max, CPU, cumulative), cumulative)
    counts = torch.zeros(t_max + 1)
    for number in range(5):
        d = draws(BATCH, 4000 * number, share)
        ends = d.t if d.timesteps is None else torch.cat([d.timesteps[-1], d.t[d.on_method :]])
        counts += torch.bincount(ends, minlength=t_max + 1)
    error = (counts[1:] / 20_000).cumsum(0) - torch.from_numpy(expected).cumsum(0)
    assert error.abs().max() < (0.02 if path is None else 0.1)  # a coarser path has every second timestep


def test_images_off_the_path_see_every_step() -> None:
    d = TrainSampler(0, 20, False, TimestepPath.of(20, None, 3, 20, CPU))(BATCH, seen=0, share=0.25)
    assert d.on_method in (849, 850, 851)  # of 1000 on the path: 3 of 20 timesteps end none of its steps
    assert d.timesteps is not None
    assert d.timesteps.shape[1] == d.on_method
    assert set(d.t[: d.on_method].tolist()) == set(range(4, 21))
    assert set(d.t[d.on_method :].tolist()) == set(range(1, 21))


def test_noise_of_a_rival_does_not_change_what_the_others_draw() -> None:
    bare = TrainSampler(3, 20, True)(BATCH, 64)
    rival = TrainSampler(3, 20, True, perturbed=True, draws_z=True)(BATCH, 64)
    assert bare.xi is None
    assert rival.xi is not None
    assert rival.z is not None
    assert not torch.equal(rival.xi, rival.z)
    for name in ("x0", "t", "eps", "self_cond"):
        assert torch.equal(torch.as_tensor(getattr(bare, name)), torch.as_tensor(getattr(rival, name)))


def test_dropout_draws_other_numbers_than_the_step() -> None:
    d = TrainSampler(3, 20, False)(BATCH, 64)
    u = torch.rand((2, 4000))
    assert not torch.equal(torch.randn(d.eps.shape), d.eps)
    assert (1 + (u[0] * 20).long() == d.t).double().mean() < 0.1


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize(("path", "gap"), [(None, 7), (4, 3)])
@pytest.mark.parametrize("world", [3, 12])
def test_ranks_together_draw_what_one_process_does(
    world: int, path: int | None, gap: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image by image: what takes the path, what is due to its top, and each number."""
    draws = TrainSampler(5, 100, True, TimestepPath.of(100, path, gap, 100, CPU), perturbed=True, draws_z=True)
    x0 = torch.randn(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for seen in range(0, 240, 12):
        one = draws(Batch(x0, -x0), seen, share)
        for rank in range(world):
            with monkeypatch.context() as variables:
                for name, value in (("RANK", rank), ("WORLD_SIZE", world), (LAUNCHER, "a launcher")):
                    variables.setenv(name, str(value))
                part = draws(Batch(x0[rank::world], -x0[rank::world]), seen, share)
            for name in ("x0", "condition", "t", "eps", "xi", "z"):
                assert torch.equal(getattr(part, name), getattr(one, name)[rank::world]), name
            assert part.self_cond == one.self_cond
            if part.timesteps is not None:
                assert one.timesteps is not None
                assert torch.equal(part.timesteps, one.timesteps[:, rank::world])
            assert part.on_method == len(range(rank, one.on_method, world))
