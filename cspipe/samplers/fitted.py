"""Linear multistep sampler with weights fitted to the net that is sampled from, for three to five steps.

x_s = a x_t + b x0_hat + c x0_hat' + d x0_hat'', with the estimates of the two steps before. A coarse step misses its
end by a truncation error; the weights are fitted by least squares to the states that DDIM reaches in FINE steps from
the same noises, step by step, starting from the states that the fitted steps before reach. The fit needs no images: it
calls the net about FINE times for each of NOISES noises, once, before the first sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.diffusion.ddim import ddim_step, evenly_spaced
from cspipe.diffusion.process import Denoiser
from cspipe.sampling.batches import Sampler
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = True, False
NOISES, CHUNK, FINE = 64, 32, 100
"""Noises that the weights are fitted to; images per pass of the net; DDIM steps to the targets, beside the path's."""


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return x_s of DDIM's step, as nothing is fitted yet; images (N, C, H, W), timesteps (N,)."""
    return ddim_step(x_t, x0_hat, t, s, state.schedule)


@dataclass
class FittedStep:
    """Step function with weights for every step of a path; missing weights are fitted to `targets` on use."""

    targets: dict[int, Tensor]
    """States (N, C, H, W) that the steps should reach, by timestep s, from the noises that are sampled from."""
    weights: list[list[float]] = field(default_factory=list)

    def __call__(self, x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
        """Return x_s; images (N, C, H, W), timesteps (N,)."""
        state.history = [x0_hat, *state.history[:2]]
        parts = [x_t, *state.history]
        if state.number == len(self.weights):
            self.weights.append(least_squares(parts, self.targets[state.timesteps[state.number + 1]]))
        return sum((weight * part for weight, part in zip(self.weights[state.number], parts, strict=True)), x_t * 0)


def least_squares(parts: list[Tensor], target: Tensor) -> list[float]:
    """Return w that minimises ||sum_i w_i parts_i - target||^2 for images (N, C, H, W), by the normal equations."""
    products = torch.zeros(len(parts), len(parts) + 1, dtype=torch.float64, device=target.device)
    for *some, wanted in zip(*(images.split(CHUNK) for images in [*parts, target]), strict=True):
        rows = torch.stack([*some, wanted]).flatten(1).double()
        products += rows[:-1] @ rows.T
    products = products.cpu()
    solved: list[float] = torch.linalg.lstsq(products[:, :-1], products[:, -1:]).solution[:, 0].tolist()
    return solved


def fit(sampler: Sampler) -> Sampler:
    """Return the sampler with its steps fitted to noises that no sample has."""
    native, targets = sampler.schedule.steps, {}
    source = torch.Generator().manual_seed(derive_seed(0, "fitted sampler"))
    x_T = sampler.device.upload(torch.randn(NOISES, *sampler.shape, generator=source))

    def fine(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
        """Take DDIM's step; keep the states at timesteps of the path in `targets`."""
        x_s = ddim_step(x_t, x0_hat, t, s, state.schedule)
        if (end := state.timesteps[state.number + 1]) in sampler.path:
            targets[end] = x_s
        return x_s

    between = sorted({*sampler.path, *evenly_spaced(native, min(FINE, native))}, reverse=True)
    fitted = FittedStep(targets)
    for path, taken in ((between, fine), (sampler.path, fitted)):
        state = SamplerState(sampler.schedule, path, terminal=sampler.terminal)
        sample(in_chunks(sampler), x_T, taken, state)
    return replace(sampler, step=FittedStep({}, fitted.weights))


def in_chunks(sampler: Sampler) -> Denoiser:
    """Return the sampler's net for NOISES images, called with CHUNK at a time, each chunk along its own trajectory."""
    nets = [sampler.net(None)[0] for _ in range(0, NOISES, CHUNK)]

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        """Return the estimate at (x_t, t)."""
        return torch.cat([net(x, at) for net, x, at in zip(nets, x_t.split(CHUNK), t.split(CHUNK), strict=True)])

    return denoise
