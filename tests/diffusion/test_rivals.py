"""Input perturbation and self-conditioning."""

import torch
from torch import Tensor, nn

from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.diffusion.training_pair import perturbed, plain_pair
from cspipe.runtime.device import ComputeSettings, open_device


def test_perturbed_state_is_the_forward_state_of_a_larger_noise() -> None:
    """Ning et al. (2023), algorithm 1: x_t = sqrt(ab) x0 + sqrt(1 - ab) (e + gamma xi)."""
    schedule, t = cosine_schedule(100), torch.tensor([1, 50, 100])
    x0, e, xi = torch.randn((3, 3, 1, 4, 4), dtype=torch.float64).unbind(0)
    pair = plain_pair("eps", x0, e, t, schedule)
    assert torch.equal(perturbed(pair, xi, 0.15, schedule).target, e)
    assert torch.allclose(perturbed(pair, xi, 0.15, schedule).x, add_noise(x0, e + 0.15 * xi, t, schedule))


class Echo(nn.Module):
    """Its second channel plus 1/4."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x[:, 1:2] + 0.25


def test_self_conditioned_net_is_told_zeros_and_then_what_it_said_last() -> None:
    compute = {"precision": "float32", "compile": False, "deterministic": True, "gpus": 1, "nodes": 1}
    device = open_device(ComputeSettings(device="cpu", threads=1, **compute))
    schedule = cosine_schedule(10)
    denoise = NetDenoiser(TimestepScaledNet(Echo(), 10, device, self_conditioned=True), "x0", schedule)
    x, t = torch.randn(2, 1, 4, 4), torch.full((2,), 5)
    state = denoise.along_trajectory()
    assert [float(state(x, t).mean()) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert float(denoise.along_trajectory()(x, t).mean()) == 0.25  # another state remembers nothing
    assert float(denoise(x, t).mean()) == 0.25
    assert float(denoise.with_self_cond(torch.full_like(x, 0.5))(x, t).mean()) == 0.75
