"""Heun's step: diffusers step by step, its cost, and what a compensation does to it.

tests/exchange/test_from_edm.py has what EDM's own sampler gave.
"""

import pytest
import torch
from diffusers import HeunDiscreteScheduler
from torch import Tensor

from cspipe.compensation import Compensation, Weighting
from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.correction import on_estimates
from cspipe.sampling.repaint import Known, resampled
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState, find_step

heun = find_step("heun")
KAPPA = Weighting(weight="kappa", scale=1.0, cap=None)


def curve(x: Tensor, t: Tensor) -> Tensor:
    """An estimate that depends on the state and the step."""
    return torch.tanh(2 * x + t.reshape(-1, 1, 1, 1) / 50) * 0.8


def module(x0_hat: Tensor, t: Tensor) -> Tensor:
    """A C that depends on the estimate and the step."""
    return 0.2 * torch.sin(3 * x0_hat + t.reshape(-1, 1, 1, 1) / 20)


def compensation(schedule: Schedule, kind: str | float = "kappa") -> Compensation:
    return Compensation(module, schedule, Weighting(weight=kind, scale=1.0, cap=None))


def compensated_sample(x_T: Tensor, state: SamplerState, correction: Compensation) -> Tensor:
    """Heun's sampler with the correction on its estimates."""
    denoise, hook = on_estimates(curve, correction)
    return sample(denoise, x_T, heun, state, hook)


@pytest.mark.parametrize("count", [1, 2, 5, 18, 100])
def test_equals_diffusers_step_by_step(count: int, schedule: Schedule, e: Tensor) -> None:
    steps = evenly_spaced(100, count)
    theirs = HeunDiscreteScheduler(prediction_type="sample", clip_sample=False)
    theirs.set_timesteps(count)
    levels = (
        schedule.sqrt_one_minus_alpha_bar[steps] / schedule.sqrt_alpha_bar[steps]
    )  # by hand: its own are rounded to float32
    theirs.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    theirs.set_begin_index(0)
    asked = [torch.full((8,), t) for number, t in enumerate(steps[:-1]) for _ in range(2 if number else 1)]
    y = e / schedule.sqrt_alpha_bar[100]
    for number, t in enumerate(asked):  # it asks at s, then steps; the same net at the same states
        estimate = curve(y * per_image(schedule.sqrt_alpha_bar[t]), t)
        y = theirs.step(estimate, theirs.timesteps[number], y).prev_sample
    assert torch.allclose(sample(curve, e, heun, SamplerState(schedule, steps)), y, atol=1e-9)


def test_net_is_asked_twice_a_step_and_once_at_the_last(schedule: Schedule, e: Tensor) -> None:
    asked = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t[0]))
        return curve(x, t)

    sample(denoise, e, heun, SamplerState(schedule, [100, 60, 20, 0]))
    assert asked == [100, 60, 60, 20, 20]


def test_kappa_equals_heun_on_the_corrected_estimate(schedule: Schedule, e: Tensor) -> None:
    """The identity of DDIM, for a module that sees the estimates of both ends of a step."""

    def corrected(x: Tensor, t: Tensor) -> Tensor:
        x0_hat = curve(x, t)
        return x0_hat + module(x0_hat, t)

    steps = evenly_spaced(100, 10)
    compensated = compensated_sample(e, SamplerState(schedule, steps), compensation(schedule))
    assert torch.allclose(compensated, sample(corrected, e, heun, SamplerState(schedule, steps)), atol=1e-9)
    assert not torch.allclose(compensated, sample(curve, e, heun, SamplerState(schedule, steps)), atol=1e-2)


def test_zero_module_changes_no_bit(schedule: Schedule, e: Tensor) -> None:
    single = Schedule(schedule.sqrt_alpha_bar.float(), schedule.sqrt_one_minus_alpha_bar.float())
    nothing = Compensation(lambda x0_hat, t: torch.zeros_like(x0_hat), single, KAPPA)
    plain, with_it = (SamplerState(single, evenly_spaced(100, 10)) for _ in range(2))
    assert torch.equal(sample(curve, e.float(), heun, plain), compensated_sample(e.float(), with_it, nothing))


def test_goes_back_up_with_known_pixels(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """The end of a state is reached more than once; each time the step is Euler's."""
    hole = torch.zeros(8, 1, 4, 4, dtype=torch.bool)
    hole[..., :2] = True
    steps = resampled([100, 40, 0], 3)
    state = SamplerState(schedule, steps, noise=lambda: torch.randn(e.shape, dtype=e.dtype), known=Known(x0, hole))
    x = sample(curve, e, heun, state)
    assert torch.isfinite(x).all()
    assert torch.allclose(x[..., 2:], x0[..., 2:])
