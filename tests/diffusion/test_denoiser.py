"""A net as the mathematics sees it: what it is shown, what is made of its answer, and the loss of a training pair."""

import re
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.process import add_noise, training_target
from cspipe.diffusion.schedule import cosine_schedule, karras_schedule
from cspipe.diffusion.training_pair import TrainingPair, perturbed, plain_pair
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError

CPU = Device(torch.device("cpu"), torch.float32, False)
SCHEDULE = karras_schedule(10).to(torch.device("cpu"))


class Answer(nn.Module):
    """A net that says what it was given to say, and keeps what it was shown."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen = x
        return self.output


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
def test_net_that_says_the_target_finds_the_picture(prediction: str) -> None:
    x0 = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    e = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    condition = torch.full((8, 1, 4, 4), 0.5)
    t = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    x_t = add_noise(x0, e, t, SCHEDULE)
    net = Answer(training_target(prediction, x0, e, t, SCHEDULE))
    denoise = NetDenoiser(TimestepScaledNet(net, 10, CPU), prediction, SCHEDULE).with_condition(condition)
    assert torch.allclose(denoise(x_t, t), x0, atol=1e-4)
    signal, noise = (
        values[t].reshape(-1, 1, 1, 1) for values in (SCHEDULE.sqrt_alpha_bar, SCHEDULE.sqrt_one_minus_alpha_bar)
    )
    scale = (noise**2 + 0.25 * signal**2).sqrt() if prediction == "edm" else torch.ones(8, 1, 1, 1)
    assert torch.allclose(net.seen[:, :3], x_t / scale)
    assert torch.equal(net.seen[:, 3:], condition), "it is shown as it is"


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
    schedule = cosine_schedule(10)
    denoise = NetDenoiser(TimestepScaledNet(Echo(), 10, CPU, self_conditioned=True), "x0", schedule)
    x, t = torch.randn(2, 1, 4, 4), torch.full((2,), 5)
    state = denoise.along_trajectory()
    assert [float(state(x, t).mean()) for _ in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert float(denoise.along_trajectory()(x, t).mean()) == 0.25  # another state remembers nothing
    assert float(denoise(x, t).mean()) == 0.25
    assert float(denoise.with_self_cond(torch.full_like(x, 0.5))(x, t).mean()) == 0.75


@pytest.mark.parametrize(("norm", "best"), [("l2", 0.25), ("l1", 0.0)])
def test_the_loss_is_least_at_the_mean_or_at_the_median(norm: Literal["l1", "l2"], best: float) -> None:
    """Of the images that one state can be: three are 0, one is 1."""
    images = torch.tensor([0.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    pair = TrainingPair(images, torch.ones(4), images, torch.ones(4))
    outputs = torch.linspace(-1, 2, 301)
    losses = torch.stack([pair.loss(output.expand(4, 1, 1, 1), norm) for output in outputs])
    assert float(outputs[losses.argmin()]) == pytest.approx(best, abs=0.006)
    doubled = pair._replace(weight=2 * pair.weight)
    assert torch.allclose(doubled.loss(images + 3, norm), 2 * pair.loss(images + 3, norm))


def test_an_output_that_would_be_broadcast_is_refused() -> None:
    """Of a net with a channel instead of three, or with half of the pixels: the file of the net is named."""
    x, t = torch.zeros(2, 3, 4, 4), torch.tensor([1, 2])
    for shape in ((2, 1, 4, 4), (2, 3, 1, 1), (4, 3, 4, 4)):
        with pytest.raises(UserError, match=f"^{__name__}: the net returned {re.escape(str(shape))}"):
            TimestepScaledNet(Answer(torch.zeros(shape)), 10, CPU)(x, t)
