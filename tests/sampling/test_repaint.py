"""RePaint: the path, the noise that goes back in, and the pixels that are given."""

import pytest
import torch
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import Schedule, cosine_schedule
from cspipe.samplers import ddim
from cspipe.sampling.repaint import Known, renoise, resampled
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState

SCHEDULE = cosine_schedule(20)


def steps(t: int, count: int) -> Tensor:
    return torch.full((count,), t)


def test_path_takes_every_step_as_often_as_asked() -> None:
    assert resampled([9, 6, 3, 0], 1) == [9, 6, 3, 0]
    assert resampled([9, 6, 0], 3) == [9, 6, 9, 6, 9, 6, 0, 6, 0, 6, 0]


@pytest.mark.parametrize(("s", "t"), [(0, 1), (3, 4), (5, 15)])
def test_noise_that_goes_back_in_leads_to_the_forward_process(s: int, t: int) -> None:
    """q(x_s | x0), then q(x_t | x_s), has the mean and variance of q(x_t | x0)."""
    generator = torch.Generator().manual_seed(0)
    e, z = torch.randn((2, 40_000, 1, 1, 1), generator=generator, dtype=torch.float64)
    x0 = torch.full_like(e, 0.7)
    x_s = add_noise(x0, e, steps(s, len(e)), SCHEDULE)
    x_t = renoise(x_s, steps(s, len(e)), steps(t, len(e)), z, SCHEDULE)
    assert float(x_t.mean()) == pytest.approx(0.7 * float(SCHEDULE.sqrt_alpha_bar[t]), abs=0.02)
    assert float(x_t.std()) == pytest.approx(float(SCHEDULE.sqrt_one_minus_alpha_bar[t]), rel=0.02)


def gaussian(mean: Tensor, covariance: Tensor, schedule: Schedule):
    """The best clean estimate of two pixels with a joint normal distribution."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = schedule.sqrt_alpha_bar[t[0]], schedule.sqrt_one_minus_alpha_bar[t[0]]
        gain = signal * covariance @ torch.linalg.inv(signal**2 * covariance + noise**2 * torch.eye(2))
        flat = x.flatten(1)
        return (mean + (flat - signal * mean) @ gain.T).reshape(x.shape)

    return denoise


def filled(rounds: int, given: float, correlation: float, count: int = 4000) -> Tensor:
    """The second pixel of pairs whose first one is given, by an unconditional net that knows the joint distribution."""
    schedule = cosine_schedule(50).to(torch.device("cpu"))
    covariance = 0.04 * torch.tensor([[1.0, correlation], [correlation, 1.0]])
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn((count, 1, 1, 2), generator=generator)
    hole = torch.tensor([False, True]).reshape(1, 1, 1, 2).expand(count, 1, 1, 2)
    x0 = torch.zeros(count, 1, 1, 2)
    x0[..., 0] = given
    path = resampled(evenly_spaced(50, 50), rounds)
    state = SamplerState(schedule, path, 1.0, lambda: torch.randn(x_T.shape, generator=generator), Known(x0, hole))
    x = sample(gaussian(torch.zeros(2), covariance, schedule), x_T, ddim.step, state)
    assert torch.equal(x[..., 0], x0[..., 0]), "known pixels come back as they were given"
    return x[..., 1]


def test_rounds_bring_the_filled_pixels_to_the_conditional_distribution() -> None:
    """E[x2 | x1] = correlation x1 in closed form; replacing alone stays short of it, resampling comes near."""
    wanted = 0.9 * 0.3
    means = {rounds: float(filled(rounds, 0.3, 0.9).mean()) for rounds in (1, 10)}
    assert abs(means[10] - wanted) < 0.02
    assert abs(means[10] - wanted) < abs(means[1] - wanted)


def test_known_pixels_and_rising_steps_need_noise() -> None:
    with pytest.raises(ValueError, match="need a noise source"):
        SamplerState(SCHEDULE, [20, 10, 0], known=Known(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1) > 0))
    with pytest.raises(ValueError, match="need a noise source"):
        SamplerState(SCHEDULE, [20, 10, 20, 0])
