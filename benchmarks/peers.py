"""The same work by other libraries, as their users do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import Clock, Mode, figures, new_batch
from cspipe.config.params import Params
from cspipe.config.workload import cost_of


class Sample(nn.Module):
    """Diffusers' U-Net with the widths, depths and attention of ours, called as ours is."""

    def __init__(self, params: Params) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        model, size = params.model.model_dump(), params.data.size
        attends = [size >> level in model["attention"] for level in range(len(model["multipliers"]))]
        self.net = UNet2DModel(
            sample_size=size,
            in_channels=params.data.channels,
            out_channels=params.data.channels,
            layers_per_block=model["blocks"],
            block_out_channels=tuple(model["channels"] * multiplier for multiplier in model["multipliers"]),
            down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
            up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
            attention_head_dim=model["head_channels"],
            norm_num_groups=min(32, model["channels"]),
            dropout=model["dropout"],
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, C, H, W), t (N,): what it predicts, in the same shape."""
        out: Tensor = self.net(x, t).sample
        return out


def diffusers_training(params: Params, mode: Mode, clock: Clock, matrices: float) -> dict[str, Any]:
    """A step of diffusers' example of unconditional training: AdamW, clipping, and its EMA of the weights."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    net, scheduler = Sample(params).to(clock.device), DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    if mode.channels_last:
        net.to(memory_format=torch.channels_last)
    called = torch.compile(net) if mode.compile else net
    optimizer, ema = torch.optim.AdamW(net.parameters(), fused=True), EMAModel(net.parameters())
    x0 = new_batch(params, clock.device).x0

    def step() -> None:
        """One optimizer step."""
        noise = torch.randn_like(x0)
        t = torch.randint(0, 1000, (len(x0),), device=x0.device)
        with torch.autocast(x0.device.type, mode.precision, enabled=mode.precision != torch.float32):
            predicted = called(scheduler.add_noise(x0, noise, t), t)
        nn.functional.mse_loss(predicted.float(), noise).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(net.parameters())

    cost = cost_of(Sample(params), torch.randn(1, *x0.shape[1:]), torch.ones(1))
    return figures(params, clock, step, cost, matrices)
