"""Training and sampling with other libraries, as their users do it, to compare with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed import Clock, Mode, figures, new_batch
from cspipe.config.params import Params
from cspipe.config.workload import cost_of


class Sample(nn.Module):
    """Diffusers' U-Net with the widths, depths and attention of ours, or another width, called as ours is."""

    def __init__(self, params: Params, channels: int | None = None) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        model, size = params.model.model_dump(), params.data.size
        channels = channels or model["channels"]
        attends = [size >> level in model["attention"] for level in range(len(model["multipliers"]))]
        self.net = UNet2DModel(
            sample_size=size,
            in_channels=params.data.channels,
            out_channels=params.data.channels,
            layers_per_block=model["blocks"],
            block_out_channels=tuple(channels * multiplier for multiplier in model["multipliers"]),
            down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
            up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
            attention_head_dim=model["head_channels"],
            norm_num_groups=gcd(32, channels),
            dropout=model["dropout"],
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction for x (N, C, H, W) and t (N,), in the shape of x."""
        out: Tensor = self.net(x, t).sample
        return out


def diffusers_training(params: Params, mode: Mode, clock: Clock, matrices: float) -> dict[str, Any]:
    """Measure a step of diffusers' example of unconditional training."""
    net = Sample(params).to(clock.device)
    if mode.other_layout:
        net.to(memory_format=torch.channels_last)
    step = diffusers_step(net, mode, new_batch(params, clock.device).x0, params.train.micro_batch)
    with torch.device("meta"):
        cost = cost_of(Sample(params), torch.empty(1, params.data.channels, *[params.data.size] * 2), torch.empty(1))
    return figures(params, clock, step, cost, matrices)


def diffusers_step(net: Sample, mode: Mode, batch: Tensor, micro_batch: int) -> Callable[[], None]:
    """Return diffusers' training step on images (N, C, H, W): accumulated gradients, AdamW, clipping, EMA."""
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    called = torch.compile(net) if mode.compile else net
    optimizer, ema = torch.optim.AdamW(net.parameters(), fused=True), EMAModel(net.parameters())

    def step() -> None:
        """Run one optimizer step."""
        for x0 in batch.split(micro_batch):
            noise = torch.randn_like(x0)
            t = torch.randint(0, 1000, (len(x0),), device=x0.device)
            with torch.autocast(x0.device.type, mode.precision, enabled=mode.precision != torch.float32):
                predicted = called(scheduler.add_noise(x0, noise, t), t)
            (nn.functional.mse_loss(predicted.float(), noise) * (len(x0) / len(batch))).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(net.parameters())

    return step


def diffusers_sampling(net: Sample, shape: tuple[int, ...], steps: int) -> Callable[[], Tensor]:
    """Return a function that samples images of `shape` (N, C, H, W) by diffusers' DDIM, as its pipeline does."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
    scheduler.set_timesteps(steps)

    @torch.no_grad()
    def sample() -> Tensor:
        """Sample one batch."""
        x = torch.randn(shape)
        for t in scheduler.timesteps:
            x = scheduler.step(net.net(x, t).sample, t, x).prev_sample
        return x

    return sample


def lucidrains(params: Params, x0: Tensor, steps: int) -> tuple[nn.Module, Callable[[], None], Callable[[], Tensor]]:
    """Return denoising-diffusion-pytorch's U-Net with our widths, its training step and its DDIM sampling.

    The training step is that of its Trainer: Adam, clipping, and an EMA of the weights every ten steps.
    """
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    model, size = params.model.model_dump(), params.data.size
    attends = tuple(size >> level in model["attention"] for level in range(len(model["multipliers"])))
    net = Unet(
        dim=model["channels"], dim_mults=tuple(model["multipliers"]), full_attn=attends,
        attn_dim_head=model["head_channels"], channels=x0.shape[1], flash_attn=True,
    )  # fmt: skip
    diffusion = GaussianDiffusion(net, image_size=size, sampling_timesteps=steps)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema, images = EMA(diffusion, beta=0.995, update_every=10), (x0 + 1) / 2

    def step() -> None:
        """Run one optimizer step."""
        diffusion(images).backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    def sample() -> Tensor:
        """Sample one batch, without the progress bar."""
        with redirect_stderr(StringIO()):
            images: Tensor = diffusion.sample(batch_size=len(x0))
        return images

    return net, step, sample
