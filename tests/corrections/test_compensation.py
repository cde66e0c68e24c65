"""The identities of compensation sampling (arXiv 2312.06285 and its derivation)."""

import pytest
import torch
from torch import Tensor

from cspipe.compensation import Compensation, Weighting, compensation_weight, compensator_loss
from cspipe.diffusion.ddim import ddim_step, evenly_spaced
from cspipe.diffusion.process import add_noise, per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.samplers.ddim import step
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState

STEPS = [(100, 99), (100, 40), (57, 56), (2, 1), (1, 0)]


def exact(schedule: Schedule, c: Tensor) -> Compensation:
    return Compensation(lambda x0_hat, t: c, schedule, Weighting(weight="kappa", scale=1.0, cap=None))


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_error_of_ddim_is_kappa_times_the_error_of_the_estimate(
    t: int, s: int, schedule: Schedule, x0: Tensor, e: Tensor
) -> None:
    t_, s_, x0_hat = torch.full((8,), t), torch.full((8,), s), 0.3 * x0
    step = ddim_step(add_noise(x0, e, t_, schedule), x0_hat, t_, s_, schedule)
    error = add_noise(x0, e, s_, schedule) - step
    assert torch.allclose(error, per_image(schedule.kappa(t_, s_)) * (x0 - x0_hat), atol=1e-9)


@pytest.mark.parametrize(("t", "s"), STEPS)
def test_oracle_lands_on_the_forward_process_with_the_same_noise(
    t: int, s: int, schedule: Schedule, x0: Tensor, e: Tensor
) -> None:
    t_, s_, x0_hat = torch.full((8,), t), torch.full((8,), s), -0.2 * x0
    x_s = ddim_step(add_noise(x0, e, t_, schedule), x0_hat, t_, s_, schedule)
    assert torch.allclose(exact(schedule, x0 - x0_hat)(x_s, x0_hat, t_, s_), add_noise(x0, e, s_, schedule), atol=1e-9)


def test_zero_module_gives_ddim_bit_for_bit(schedule: Schedule, e: Tensor) -> None:
    single = Schedule(schedule.sqrt_alpha_bar.float(), schedule.sqrt_one_minus_alpha_bar.float())
    denoise = lambda x, t: torch.tanh(x)  # noqa: E731
    steps = evenly_spaced(100, 20)
    plain = sample(denoise, e.float(), step, SamplerState(single, steps))
    nothing = exact(single, torch.zeros_like(e).float())
    compensated = sample(denoise, e.float(), step, SamplerState(single, steps), nothing)
    assert torch.equal(plain, compensated)


def test_kappa_equals_ddim_on_the_corrected_estimate(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    t, s, x0_hat, c = torch.full((8,), 63), torch.full((8,), 41), 0.5 * x0, 0.1 * e
    x_t = add_noise(x0, e, t, schedule)
    corrected = exact(schedule, c)(ddim_step(x_t, x0_hat, t, s, schedule), x0_hat, t, s)
    assert torch.allclose(corrected, ddim_step(x_t, x0_hat + c, t, s, schedule), atol=1e-9)


def test_weights_are_those_of_their_names(schedule: Schedule) -> None:
    t, s = torch.tensor([100, 50, 2, 1]), torch.tensor([99, 20, 1, 0])
    signal, noise = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
    kappa = signal[s] - signal[t] * noise[s] / noise[t]

    def weight(kind: str | float, scale: float = 1.0, cap: float | None = None) -> Tensor:
        return compensation_weight(t, s, schedule, Weighting(weight=kind, scale=scale, cap=cap))

    assert torch.allclose(weight("kappa"), kappa)
    assert torch.allclose(weight("signal", 0.5), signal[s] / 2)
    assert torch.allclose(weight("cold"), signal[s] - signal[t])
    assert torch.allclose(weight(0.25), torch.full((4,), 0.25, dtype=torch.float64))
    capped = weight("kappa", cap=0.3)
    assert torch.allclose(capped[:3], torch.minimum(kappa, 0.3 * noise[s])[:3])
    assert capped[3] == 1  # at s = 0 there is no noise to compare with


def test_compensator_loss_is_zero_for_the_oracle_and_the_norm_it_says_otherwise(x0: Tensor) -> None:
    x0_hat = 0.5 * x0
    assert compensator_loss(x0 - x0_hat, x0, x0_hat, "l2") == 0
    zero = torch.zeros_like(x0)
    assert torch.isclose(compensator_loss(zero, x0, x0_hat, "l2"), (x0 / 2).square().mean())
    assert torch.isclose(compensator_loss(zero, x0, x0_hat, "l1"), (x0 / 2).abs().mean())
