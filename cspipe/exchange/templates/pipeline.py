"""DDIM (Song et al. 2021) and, with a net C, its compensated steps (arXiv 2312.06285). Written by `cspipe export`.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
images = pipe(batch_size=16, num_inference_steps=10).images
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

SIGMA_DATA = 0.5


class CompensatedPipeline(DiffusionPipeline):
    """A main net, the table of its noise levels and, for compensated steps, C, which estimates the net's error."""

    _optional_components = ["compensator", "mean"]  # noqa: RUF012 (diffusers')

    def __init__(
        self, unet: Any, scheduler: Any, compensator: Any = None, mean: Any = None, native_steps: int = 1000,
        prediction: str = "eps", channels: int = 3, self_condition: bool = False,
    ) -> None:  # fmt: skip
        """Take unet, compensator and mean, called as net(x, t in 0..999).sample, and a scheduler with trained_betas."""
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, compensator=compensator, mean=mean)
        self.register_to_config(
            native_steps=native_steps, prediction=prediction, channels=channels, self_condition=self_condition
        )

    @torch.no_grad()
    def __call__(
        self, batch_size: int = 1, generator: Any = None, num_inference_steps: int = 50, output_type: str = "pil",
        return_dict: bool = True, compensation: float = 1.0, latents: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
    ) -> Any:  # fmt: skip
        """Sample images from noise. output_type: pil, np, or pt in 0..1.

        compensation: factor on w = kappa, 0 for plain DDIM. latents: noise (N, C, H, W) in place of the generator's.
        condition: (N, K, H, W) in [-1, 1] for a net that was trained with one. With a `mean` that image is the
        estimate at the first step, which is not compensated. Raises ValueError for nets in half precision.
        """
        if self.unet.dtype != torch.float32:  # half precision would round times
            raise ValueError("the nets are in half precision; load them in float32 and call this under torch.autocast")
        T, size, device = self.config.native_steps, self.unet.config.sample_size, self._execution_device
        steps = min(num_inference_steps, T)
        path = [round(T * (steps - i) / steps) for i in range(steps + 1)]
        shape = (batch_size, self.config.channels, size, size)
        x = randn_tensor(shape, generator=generator, device=device) if latents is None else latents.to(device)
        told = [] if condition is None else [condition.to(x)]
        (signals, noises), x0 = self._levels(), torch.zeros_like(x)
        for t, s in self.progress_bar(list(pairwise(path))):
            signal, noise, time = signals[t], noises[t], torch.tensor(t * (1000 / T) - 1, device=device)
            if given := t == T and self.mean is not None:
                x0 = self.mean(x, time).sample
            else:
                spread = (noise**2 + (SIGMA_DATA * signal) ** 2) ** 0.5 if self.config.prediction == "edm" else 1.0
                seen = [x / spread, *told, *([x0] if self.config.self_condition else [])]
                output = self.unet(torch.cat(seen, dim=1), time).sample
                x0 = self._clean(output, x, signal, noise, spread).clamp(-1, 1)
            x = signals[s] * x0 + noises[s] * (x - signal * x0) / noise
            if self.compensator is not None and compensation and not given:
                kappa = signals[s] - signal * noises[s] / noise
                C = self.compensator(torch.cat([x0, *told], dim=1), time).sample
                x = x + compensation * kappa * C
        images = (x / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            images = images.cpu().permute(0, 2, 3, 1).float().numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _levels(self) -> tuple[list[float], list[float]]:
        """Return signal and noise of x_t for t = 0..native_steps; the scheduler may have more, between native steps."""
        betas = torch.tensor(self.scheduler.config.trained_betas, dtype=torch.float64)
        between = len(betas) // self.config.native_steps
        alpha_bar = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)[between - 1 :: between]])
        return alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()

    def _clean(self, output: Any, x: Any, signal: float, noise: float, spread: float) -> Any:
        """Return the clean estimate that follows from the net's output."""
        if self.config.prediction == "eps":
            return (x - noise * output) / signal
        if self.config.prediction == "v":
            return signal * x - noise * output
        if self.config.prediction == "edm":
            return SIGMA_DATA / spread * (SIGMA_DATA / spread * signal * x + noise * output)
        return output
