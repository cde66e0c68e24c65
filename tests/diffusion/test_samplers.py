"""Samplers against diffusers step by step, DDPM's posterior, Cold Diffusion, and a Gaussian solved in closed form."""

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cspipe.diffusion.process import clean_estimate, diffuse, noise_in, per_image
from cspipe.diffusion.samplers import ddim_step, sample, subsequence
from cspipe.diffusion.schedule import Schedule, cosine_schedule, linear_schedule


@given(st.integers(2, 1500).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_subsequence_falls_from_native_to_zero(sizes: tuple[int, int]) -> None:
    native, steps = sizes
    times = subsequence(native, steps)
    assert (len(times), times[0], times[-1]) == (steps + 1, native, 0)
    assert all(a > b for a, b in zip(times[:-1], times[1:], strict=True))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@pytest.mark.parametrize("steps", [100, 20])
def test_ddim_equals_diffusers_step_by_step(prediction: str, eta: float, steps: int) -> None:
    """Same net output, same noise, at every step of the walk (theirs counts steps from 0, ours from 1)."""
    native, stride = 100, 100 // steps
    betas = torch.linspace(1e-3, 0.2, native, dtype=torch.float64)
    theirs = DDIMScheduler(
        native,
        trained_betas=betas.tolist(),
        prediction_type={"eps": "epsilon", "v": "v_prediction", "x0": "sample"}[prediction],
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(steps)
    ours = linear_schedule(native)
    generator = torch.Generator().manual_seed(0)
    x = y = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    for t, s in zip(range(native, 0, -stride), range(native - stride, -1, -stride), strict=True):
        output = torch.tanh(3 * x) * 0.7 + 0.1
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        t_, s_ = torch.full((2,), t), torch.full((2,), s)
        x = ddim_step(x, clean_estimate(prediction, output, x, t_, ours), t_, s_, ours, eta, z)
        y = theirs.step(output, t - 1, y, eta=eta, use_clipped_model_output=True, variance_noise=z).prev_sample
        assert torch.allclose(x, y, atol=1e-5), (t, s)


def test_eta_one_is_the_posterior_of_ddpm(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """Ho et al. (2020), eq. 6 and 7, with z = 0 for the mean and z = 1 for the standard deviation."""
    for step in (2, 30, 100):
        t = torch.full((8,), step)
        x_t = diffuse(x0, e, t, schedule)
        ab, ab_before = schedule.signal[step] ** 2, schedule.signal[step - 1] ** 2
        beta = 1 - ab / ab_before
        mean = ab_before.sqrt() * beta / (1 - ab) * x0 + (1 - beta).sqrt() * (1 - ab_before) / (1 - ab) * x_t
        std = (beta * (1 - ab_before) / (1 - ab)).sqrt()
        zero, one = torch.zeros_like(x0), torch.ones_like(x0)
        assert torch.allclose(ddim_step(x_t, x0, t, t - 1, schedule, 1.0, zero), mean, atol=1e-9)
        assert torch.allclose(ddim_step(x_t, x0, t, t - 1, schedule, 1.0, one), mean + std, atol=1e-9)


def test_cold_diffusion_with_the_estimated_noise_is_ddim(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """x_s = x_t - D(x0h, eh, t) + D(x0h, eh, s) (Bansal et al. 2022, algorithm 2), for an x0h that is not x0."""
    t, s = torch.full((8,), 70), torch.full((8,), 55)
    x_t, x0h = diffuse(x0, e, t, schedule), (x0 * 0.5).clamp(-1, 1)
    eh = noise_in(x_t, x0h, t, schedule)
    cold = x_t - diffuse(x0h, eh, t, schedule) + diffuse(x0h, eh, s, schedule)
    assert torch.allclose(cold, ddim_step(x_t, x0h, t, s, schedule), atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_gaussian_is_recovered(eta: float) -> None:
    """For x0 ~ N(m, S) the best denoiser is known, E[x0 | x_t]; sampling with it must give back m and S.

    The steps must be many: the error of a step, with noise the variance of x0 given x_t as well, is of order 1/T.
    """
    schedule = cosine_schedule(1000)
    mean = torch.tensor([0.15, -0.1], dtype=torch.float64)
    cov = torch.tensor([[0.02, 0.012], [0.012, 0.015]], dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = schedule.signal[t[0]], schedule.noise[t[0]]
        gain = signal * cov @ torch.linalg.inv(signal**2 * cov + noise**2 * torch.eye(2, dtype=torch.float64))
        return (mean + (x.reshape(-1, 2) - signal * mean) @ gain.T).reshape(x.shape)

    generator = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(20_000, 2, 1, 1, generator=generator, dtype=torch.float64)  # noqa: E731
    x = sample(denoise, noise(), schedule, subsequence(1000, 1000), eta, noise).reshape(-1, 2)
    assert torch.allclose(x.mean(0), mean, atol=0.005)
    assert torch.allclose(x.T.cov(), cov, atol=0.001)


def test_oracle_denoiser_walks_back_to_the_image(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    x_T = diffuse(x0, e, torch.full((8,), 100), schedule)
    assert torch.allclose(sample(lambda x, t: x0, x_T, schedule, subsequence(100, 10)), x0)


def test_noise_is_demanded_when_eta_needs_it(schedule: Schedule, e: Tensor) -> None:
    with pytest.raises(ValueError, match="noise source"):
        sample(lambda x, t: x, e, schedule, [100, 0], eta=0.5)


def test_hook_sees_every_step_and_its_result_is_used(schedule: Schedule, e: Tensor) -> None:
    seen = []

    def correction(x_s: Tensor, x0h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        seen.append((int(t[0]), int(s[0])))
        return x_s + 1

    plain = sample(lambda x, t: torch.zeros_like(x), e, schedule, [100, 50, 0])
    hooked = sample(lambda x, t: torch.zeros_like(x), e, schedule, [100, 50, 0], correction=correction)
    assert seen == [(100, 50), (50, 0)]
    assert torch.allclose(hooked, plain + 1)
    assert per_image(torch.zeros(8)).shape == (8, 1, 1, 1)
