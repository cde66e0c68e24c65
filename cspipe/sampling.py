"""Sampling many images: a seed per image, batches that a killed run need not repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.compute import Device
from cspipe.data.conditions import hole_of
from cspipe.diffusion.corrections import AfterStep
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.repaint import Known, resampled
from cspipe.diffusion.reverse import sample, subsequence
from cspipe.diffusion.samplers import Noise, Step, Walk
from cspipe.diffusion.schedule import Schedule
from cspipe.files import whole_file
from cspipe.pixels import normalise, quantise
from cspipe.progress import Progress
from cspipe.seeds import derive_seed

Corrected = tuple[Denoiser, AfterStep | None]


@dataclass(frozen=True)
class Sampler:
    """A main net with a way to sample from it."""

    net: Callable[[Tensor | None], Corrected]
    """From a condition (N, K, H, W) in [-1, 1], None for a net without one, to the net and what is done after a step.
    """
    schedule: Schedule
    shape: tuple[int, int, int]
    """(C, H, W) of an image."""
    step: Step
    steps: int
    eta: float
    device: Device
    fills: bool = False
    """Whether inputs are those of inpainting: pixels outside of their holes are kept."""
    rounds: int | None = None
    """How often each step is taken where known pixels are put back into an unconditional net's states (RePaint)."""

    def __call__(self, seeds: list[int], inputs: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Images (N, C, H, W) for a seed and, with a condition, an input (N, K, H, W) each.

        An image does not depend on the others (but for rounding).
        """
        told = None if inputs is None else normalise(self.device.upload(torch.from_numpy(inputs)))
        first = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x_T = self.device.upload(torch.stack(first))
        denoise, correction = self.net(told if self.rounds is None else None)
        x0 = sample(denoise, x_T, self.step, self._walk(seeds, told), correction)
        images = np.asarray(quantise(x0).cpu())
        return images if inputs is None or not self.fills else np.where(hole_of(inputs), images, inputs[:, :-1])

    def _walk(self, seeds: list[int], told: Tensor | None) -> Walk:
        """The way down, with known pixels and noise where they are needed."""
        noise = per_image_noise(seeds, self.shape, self.device)
        steps = subsequence(self.schedule.steps, self.steps)
        if self.rounds is None or told is None:
            return Walk(self.schedule, steps, self.eta, noise)
        return Walk(
            self.schedule, resampled(steps, self.rounds), self.eta, noise, Known(told[:, :-1], told[:, -1:] > 0)
        )


def per_image_noise(seeds: list[int], shape: tuple[int, ...], device: Device) -> Noise:
    """A source of z (N, C, H, W): image i draws from its own generator on the device, whatever its batch."""
    generators = [device.generator(derive_seed(seed, "noise")) for seed in seeds]

    def draw() -> Tensor:
        """The next z of every image."""
        return torch.stack([torch.randn(shape, generator=g, device=device.device) for g in generators])

    return draw


Inputs = Callable[[int, int], NDArray[np.uint8]]
"""(start, stop) -> what the net is told of these samples, (stop - start, K, H, W)."""


def sample_all(
    sampler: Sampler, inputs: Inputs | None, seed: int, count: int, batch: int, parts: Path, name: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images in batches, seeds seed, seed + 1, ...; each batch is kept in `parts` for a rerun to find."""
    parts.mkdir(parents=True, exist_ok=True)
    with Progress(name, count) as progress:
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            seeds = list(range(seed + start, seed + stop))
            path = parts / f"{start:09d}.npy"
            if not path.exists():
                images = sampler(seeds, None if inputs is None else inputs(start, stop))
                with whole_file(path) as beside, beside.open("wb") as file:
                    np.save(file, images)
            yield np.load(path)
            progress.advance(len(seeds))
