"""A net as the mathematics sees it: what it is shown under each prediction, and what is made of its answer."""

import pytest
import torch
from torch import Tensor, nn

from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.process import add_noise, training_target
from cspipe.diffusion.schedule import karras_schedule
from cspipe.runtime.device import Device

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
