"""Sampling many images: a seed per image, batches that a killed run need not repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.compute import Device
from cspipe.diffusion.corrections import AfterStep
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.reverse import sample, subsequence
from cspipe.diffusion.samplers import Noise, Step, Walk
from cspipe.diffusion.schedule import Schedule
from cspipe.files import whole_file
from cspipe.pixels import quantise
from cspipe.progress import Progress
from cspipe.seeds import derive_seed


@dataclass(frozen=True)
class Sampler:
    """A main net with a way to sample from it."""

    denoise: Denoiser
    schedule: Schedule
    shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    step: Step
    steps: int
    eta: float
    correction: AfterStep | None
    device: Device

    def __call__(self, seeds: list[int]) -> NDArray[np.uint8]:
        """Images (N, C, H, W) for a seed each; an image does not depend on the others (but for rounding)."""
        first = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x_T = self.device.upload(torch.stack(first))
        noise = per_image_noise(seeds, self.shape, self.device) if self.eta > 0 else None
        walk = Walk(self.schedule, subsequence(self.schedule.steps, self.steps), self.eta, noise)
        x0 = sample(self.denoise, x_T, self.step, walk, self.correction)
        return np.asarray(quantise(x0).cpu())


def per_image_noise(seeds: list[int], shape: tuple[int, ...], device: Device) -> Noise:
    """A source of z (N, C, H, W): image i draws from its own generator on the device, whatever its batch."""
    generators = [device.generator(derive_seed(seed, "noise")) for seed in seeds]

    def draw() -> Tensor:
        """The next z of every image."""
        return torch.stack([torch.randn(shape, generator=g, device=device.device) for g in generators])

    return draw


def sample_all(
    sampler: Sampler, seed: int, count: int, batch: int, parts: Path, name: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images in batches, seeds seed, seed + 1, ...; each batch is kept in `parts` for a rerun to find."""
    parts.mkdir(parents=True, exist_ok=True)
    with Progress(name, count) as progress:
        for start in range(0, count, batch):
            seeds = list(range(seed + start, seed + min(start + batch, count)))
            path = parts / f"{start:09d}.npy"
            if not path.exists():
                images = sampler(seeds)
                with whole_file(path) as beside, beside.open("wb") as file:
                    np.save(file, images)
            yield np.load(path)
            progress.advance(len(seeds))
