"""The fitted multistep: its weights where they are known in closed form, and what it reaches with a few of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.diffusion.schedule import Schedule, cosine_schedule
from cspipe.runtime.device import Device
from cspipe.samplers.fitted import FittedStep, fit
from cspipe.sampling.batches import Sampler
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState, find_step

SCHEDULE = cosine_schedule(100)
VARIANCE = torch.tensor([0.02, 0.2], dtype=torch.float64)
PATH = [100, 60, 24, 0]


def spread(t: int) -> Tensor:
    """Standard deviation of x_t of two independent normal pixels with the mean 0."""
    return (SCHEDULE.sqrt_alpha_bar[t] ** 2 * VARIANCE + SCHEDULE.sqrt_one_minus_alpha_bar[t] ** 2).sqrt()


def share(t: int) -> Tensor:
    """E[x0 | x_t] / x_t."""
    return SCHEDULE.sqrt_alpha_bar[t] * VARIANCE / spread(t) ** 2


def denoise(x: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x_t]."""
    return (share(int(t[0])) * x).to(x.dtype)


def test_weights_of_a_linear_ode_are_those_in_closed_form() -> None:
    """Each pixel keeps its distance from the mean in standard deviations; two pixels fix two weights."""
    x_T = torch.randn(64, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = {s: x_T * spread(s) / spread(100) for s in PATH}
    step = FittedStep(exact)
    reached = sample(denoise, x_T, step, SamplerState(SCHEDULE, PATH))
    known = torch.linalg.solve(torch.stack([torch.ones(2), share(100)], dim=1).double(), spread(60) / spread(100))
    assert torch.allclose(torch.tensor(step.weights[0]).double(), known, rtol=1e-6)
    assert [len(weights) for weights in step.weights] == [2, 3, 4]
    assert torch.allclose(reached, exact[0], atol=1e-9)


def drawn(name: str, schedule: Schedule) -> tuple[NDArray[np.uint8], Sampler]:
    """Images in three steps, and their sampler."""
    device = Device(torch.device("cpu"), torch.float32, compile=False)
    sampler = Sampler(lambda _condition: (denoise, None), schedule, (1, 4, 2), find_step(name), PATH, 0.0, device)
    sampler = fit(sampler) if name == "fitted" else sampler
    return sampler(list(range(100))), sampler


def test_three_fitted_steps_end_nearer_to_the_exact_images_than_three_of_any_other() -> None:
    noises = [torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(100)]
    exact = (torch.stack(noises) * spread(0) / spread(100)).clamp(-1, 1) * 127.5 + 127.5
    far = {
        name: np.abs(drawn(name, SCHEDULE)[0] - np.asarray(exact)).mean()
        for name in ("fitted", "unipc", "ipndm", "dpm_solver", "ddim")
    }
    assert far.pop("fitted") < min(far.values()) / 4, far


def test_the_fit_is_the_same_each_time_and_images_do_not_depend_on_their_batch() -> None:
    (images, first), (again, second) = drawn("fitted", SCHEDULE), drawn("fitted", SCHEDULE)
    assert isinstance(first.step, FittedStep)
    assert first.step == second.step
    assert np.array_equal(images, again)
    assert np.array_equal(first([7]), images[7:8])
