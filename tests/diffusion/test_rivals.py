"""Input perturbation and self-conditioning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspipe.config.params import Compute
from cspipe.diffusion.denoiser import NetDenoiser, Timed
from cspipe.diffusion.perturbation import perturb
from cspipe.diffusion.process import diffuse
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.runtime.device import open_device


def test_perturbed_state_is_the_forward_state_of_a_larger_noise() -> None:
    """Ning et al. (2023), algorithm 1: x_t = sqrt(ab) x0 + sqrt(1 - ab) (e + gamma xi)."""
    schedule, t = cosine_schedule(100), torch.tensor([1, 50, 100])
    x0, e, xi = torch.randn((3, 3, 1, 4, 4), dtype=torch.float64).unbind(0)
    x_t = diffuse(x0, e, t, schedule)
    assert torch.allclose(perturb(x_t, xi, t, 0.15, schedule), diffuse(x0, e + 0.15 * xi, t, schedule))


class Echo(nn.Module):
    """Says what it is told in its second channel, plus 1/4."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x[:, 1:2] + 0.25


def test_self_conditioned_net_is_told_zeros_and_then_what_it_said_last() -> None:
    device = open_device(Compute(device="cpu", precision="float32", compile=False, threads=1))
    schedule = cosine_schedule(10)
    denoise = NetDenoiser(Timed(Echo(), 10, device, recalls=True), "x0", schedule)
    x, t = torch.randn(2, 1, 4, 4), torch.full((2,), 5)
    walk = denoise.along_a_walk()
    assert [float(walk(x, t).mean()) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert float(denoise.along_a_walk()(x, t).mean()) == 0.25  # another walk remembers nothing
    assert float(denoise(x, t).mean()) == 0.25
    assert float(denoise.told(torch.full_like(x, 0.5))(x, t).mean()) == 0.75


def test_net_without_self_conditioning_walks_as_it_is() -> None:
    device = open_device(Compute(device="cpu", precision="float32", compile=False, threads=1))
    denoise = NetDenoiser(Timed(Echo(), 10, device), "x0", cosine_schedule(10))
    assert denoise.along_a_walk() is denoise
