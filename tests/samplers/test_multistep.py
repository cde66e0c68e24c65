"""Samplers with memory: step by step against diffusers, their order on a Gaussian, and what a correction may do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, IPNDMScheduler, UniPCMultistepScheduler
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import eps_from_x0
from cspipe.diffusion.schedule import SCHEDULES, Schedule, cosine_schedule
from cspipe.samplers.unipc import rhos
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState, find_step

NAMES = ["ipndm", "unipc", "dpm_solver"]


def theirs(name: str, schedule: Schedule, steps: list[int]) -> Any:
    """Diffusers' scheduler at our noise levels; set by hand, as its own are rounded to float32 on the way."""
    if name == "ipndm":
        scheduler = IPNDMScheduler()
        scheduler.set_timesteps(len(steps) - 1)
        scheduler.alphas, scheduler.betas = schedule.sqrt_alpha_bar[steps], schedule.sqrt_one_minus_alpha_bar[steps]
    else:
        if name == "unipc":
            scheduler = UniPCMultistepScheduler(
                solver_order=3, solver_type="bh2", predict_x0=True, prediction_type="sample"
            )
        else:
            scheduler = DPMSolverMultistepScheduler(
                algorithm_type="dpmsolver++", solver_order=2, prediction_type="sample"
            )
        scheduler.set_timesteps(len(steps) - 1)
        scheduler.sigmas = schedule.sqrt_one_minus_alpha_bar[steps] / schedule.sqrt_alpha_bar[steps]
    scheduler.set_begin_index(0)
    return scheduler


def curve(x: Tensor, t: Tensor) -> Tensor:
    """An estimate that depends on the state and the step."""
    return torch.tanh(2 * x + t.reshape(-1, 1, 1, 1) / 50) * 0.8


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20, 100])
@pytest.mark.parametrize("name", NAMES)
def test_equals_diffusers_step_by_step(name: str, count: int, schedule: Schedule, e: Tensor) -> None:
    steps, step = evenly_spaced(100, count), find_step(name)
    scheduler, state, x, y = theirs(name, schedule, steps), SamplerState(schedule, steps), e, e
    for number, (t, s) in enumerate(zip(steps[:-1], steps[1:], strict=True)):
        t_, s_ = torch.full((8,), t), torch.full((8,), s)
        x0_hat, x0h_y = curve(x, t_), curve(y, t_)
        output = x0h_y
        if name == "ipndm":  # its model predicts v
            output = (
                schedule.sqrt_alpha_bar[t] * eps_from_x0(y, x0h_y, t_, schedule)
                - schedule.sqrt_one_minus_alpha_bar[t] * x0h_y
            )
        x = step(x, x0_hat, t_, s_, state)
        y = scheduler.step(output, scheduler.timesteps[number], y).prev_sample
        # Diffusers rounds the states of DPM-Solver to float32.
        assert torch.allclose(x, y, atol=1e-4 if name == "dpm_solver" else 1e-9, rtol=1e-5), (t, s)


MEAN = torch.tensor([0.15, -0.1], dtype=torch.float64)
VARIANCE = torch.tensor([0.09, 0.25], dtype=torch.float64)


def spread(t: int, schedule: Schedule) -> Tensor:
    """Standard deviation of each pixel of x_t."""
    return (schedule.sqrt_alpha_bar[t] ** 2 * VARIANCE + schedule.sqrt_one_minus_alpha_bar[t] ** 2).sqrt()


def gaussian(schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    """E[x0 | x_t] of two independent normal pixels."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal = schedule.sqrt_alpha_bar[t[0]]
        return MEAN + signal * VARIANCE / spread(int(t[0]), schedule) ** 2 * (x - signal * MEAN)

    return denoise


def error(name: str, count: int, native: int = 6400) -> float:
    """Distance from the exact solution after `count` even steps over the middle of the state.

    In closed form, each pixel keeps its distance from its mean in standard deviations. The state ends with a few more
    steps, which are not taken: the last ones are of a lower order.
    """
    schedule, start, stop = cosine_schedule(native), native * 3 // 4, native // 4
    steps = [start - (start - stop) * i // count for i in range(count + 1)]
    state = SamplerState(schedule, [*steps, stop // 2, stop // 4, 0])
    z = torch.tensor([[[[1.0, -0.7]]]], dtype=torch.float64)
    x = schedule.sqrt_alpha_bar[start] * MEAN + spread(start, schedule) * z
    denoise, step = gaussian(schedule), find_step(name)
    state.denoise = denoise
    for t, s in zip(steps[:-1], steps[1:], strict=True):
        x = step(x, denoise(x, torch.tensor([t])), torch.tensor([t]), torch.tensor([s]), state)
    return float((x - schedule.sqrt_alpha_bar[stop] * MEAN - spread(stop, schedule) * z).abs().max())


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("ipndm", 2), ("dpm_solver", 2), ("unipc", 4)])
def test_error_falls_with_the_order_as_steps_grow(name: str, order: int) -> None:
    """UniPC-3 gains one by its corrector. iPNDM's weights are for even steps in noise/signal, and ours are even in t:
    its order is 2 here."""
    errors = torch.tensor([error(name, count) for count in (20, 40, 80)]).log2()
    assert torch.allclose(errors[:-1] - errors[1:], torch.tensor(float(order)), atol=0.35)


def test_ipndm_is_exact_for_noise_cubic_in_even_steps() -> None:
    """Of noise/signal, in which DDIM's step is linear; it remembers the last three noises, and nothing older."""
    levels = torch.arange(0, 9, dtype=torch.float64)  # of noise/signal
    signal = 1 / (1 + levels**2).sqrt()
    schedule = Schedule(signal, signal * levels)
    state, step = SamplerState(schedule, list(range(8, -1, -1))), find_step("ipndm")
    level = lambda t: 0.5 + 0.3 * t - 0.2 * t**2 + 0.04 * t**3  # noqa: E731
    integral = lambda t: 0.5 * t + 0.15 * t**2 - 0.2 / 3 * t**3 + 0.01 * t**4  # noqa: E731
    for t in range(8, 0, -1):
        t_, s_ = torch.tensor([t]), torch.tensor([t - 1])
        x_t = torch.full((1, 1, 1, 1), signal[t] * integral(t), dtype=torch.float64)
        x0_hat = (x_t - schedule.sqrt_one_minus_alpha_bar[t] * level(t)) / signal[t]
        x_s = step(x_t, x0_hat, t_, s_, state)
        # The states are exact, so what the step predicted must be told to it as what was reached.
        state.history[0] = torch.full((1, 1, 1, 1), signal[t - 1] * integral(t - 1), dtype=torch.float64)
        right = abs(float(x_s / signal[t - 1]) - integral(t - 1)) < 1e-12
        assert right == (t <= 5), t


@pytest.mark.parametrize("name", NAMES)
def test_correction_stays_in_the_state_and_out_of_the_trend(
    name: str, schedule: Schedule, x0: Tensor, e: Tensor
) -> None:
    """With an estimate that never changes every sampler is DDIM, whatever a correction adds after the steps."""

    def correction(x_s: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return x_s + 0.1 * torch.sin(7 * x_s + s.reshape(-1, 1, 1, 1))

    def walk(step: str) -> Tensor:
        return sample(
            lambda x, t: x0, e, find_step(step), SamplerState(schedule, evenly_spaced(100, 10)[:-1]), correction
        )

    assert torch.allclose(walk(name), walk("ddim"), atol=1e-9)


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_weights_of_small_steps_survive_a_schedule_in_single_precision(kind: str) -> None:
    """They come from differences of third order; formed in float32, some are wrong by more than 1."""
    exact = SCHEDULES[kind](1000)
    t = torch.arange(998, 1, -1)
    weights = []
    for schedule in (exact, Schedule(exact.sqrt_alpha_bar.float(), exact.sqrt_one_minus_alpha_bar.float())):
        start = schedule.half_log_snr(t)
        h = schedule.half_log_snr(t - 1) - start
        distances = [(schedule.half_log_snr(t + back) - start) / h for back in (1, 2)]
        weights.append(torch.stack(rhos([*distances, torch.ones_like(h)], h)))
    assert torch.allclose(*weights, atol=1e-4)
    # Of even steps that are infinitely small, in closed form.
    assert torch.allclose(weights[0][:, 500], torch.tensor([5 / 24, -1 / 12, 3 / 8]).double(), atol=1e-3)
