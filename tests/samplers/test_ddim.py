"""DDIM against diffusers step by step, Cold Diffusion, and a Gaussian solved in closed form."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from cspipe.diffusion.ddim import ddim_step, evenly_spaced
from cspipe.diffusion.process import add_noise, clean_estimate, eps_from_x0
from cspipe.diffusion.schedule import Schedule, cosine_schedule, linear_schedule
from cspipe.samplers.ddim import step
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState


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


def test_cold_diffusion_with_the_estimated_noise_is_ddim(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """x_s = x_t - D(x0_hat, eps_hat, t) + D(x0_hat, eps_hat, s) (Bansal et al. 2022, algorithm 2)."""
    t, s = torch.full((8,), 70), torch.full((8,), 55)
    x_t, x0_hat = add_noise(x0, e, t, schedule), (x0 * 0.5).clamp(-1, 1)
    eps_hat = eps_from_x0(x_t, x0_hat, t, schedule)
    cold = x_t - add_noise(x0_hat, eps_hat, t, schedule) + add_noise(x0_hat, eps_hat, s, schedule)
    assert torch.allclose(cold, ddim_step(x_t, x0_hat, t, s, schedule), atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gaussian_is_recovered(eta: float) -> None:
    """For x0 ~ N(m, S) the best denoiser is known, E[x0 | x_t]; sampling with it must give back m and S.

    The steps must be many: the error of a step, with noise the variance of x0 given x_t as well, is of order 1/T.
    """
    schedule = cosine_schedule(1000)
    mean = torch.tensor([0.15, -0.1], dtype=torch.float64)
    cov = torch.tensor([[0.02, 0.012], [0.012, 0.015]], dtype=torch.float64)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = schedule.sqrt_alpha_bar[t[0]], schedule.sqrt_one_minus_alpha_bar[t[0]]
        gain = signal * cov @ torch.linalg.inv(signal**2 * cov + noise**2 * torch.eye(2, dtype=torch.float64))
        return (mean + (x.reshape(-1, 2) - signal * mean) @ gain.T).reshape(x.shape)

    generator = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(10_000, 2, 1, 1, generator=generator, dtype=torch.float64)  # noqa: E731
    state = SamplerState(schedule, evenly_spaced(1000, 1000), eta, noise)
    x = sample(denoise, noise(), step, state).reshape(-1, 2)
    assert torch.allclose(x.mean(0), mean, atol=0.005)
    assert torch.allclose(x.T.cov(), cov, atol=0.001)
