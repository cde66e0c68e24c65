"""Sampling many images: a seed per image, batches that a killed run need not repeat."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.data.conditions import hole_of
from cspipe.data.pixels import normalise, quantise
from cspipe.data.seeds import derive_seed
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.collectives import wait_for_all
from cspipe.runtime.device import Device
from cspipe.runtime.files import whole_file
from cspipe.runtime.progress import Progress
from cspipe.runtime.ranks import rank, world
from cspipe.sampling.correction import Corrected
from cspipe.sampling.repaint import Known, resampled
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import Noise, SamplerState, Step


class Drawn(NamedTuple):
    """A batch of samples."""

    images: NDArray[np.uint8]
    """(N, C, H, W)."""
    variances: NDArray[np.float64]
    """Of the states on their way, x_T first: the sum over images of the variance of an image's pixels."""


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
    path: list[int]
    """The native steps that it takes, from T to 0, without repetitions."""
    eta: float
    device: Device
    fills: bool = False
    """Whether inputs are those of inpainting: pixels outside of their holes are kept."""
    rounds: int | None = None
    """How often each step is taken where known pixels are put back into an unconditional net's states (RePaint)."""
    terminal: Tensor | None = None
    """The clean estimate (C, H, W) at T; None: the net's."""

    def __call__(self, seeds: list[int], inputs: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Images (N, C, H, W) for a seed and, with a condition, an input (N, K, H, W) each.

        An image does not depend on the others (but for rounding).
        """
        return self.draw(seeds, inputs).images

    def draw(self, seeds: list[int], inputs: NDArray[np.uint8] | None = None) -> Drawn:
        """The same images, with what was measured on their way."""
        condition = None if inputs is None else normalise(self.device.upload(torch.from_numpy(inputs)))
        first = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x_T = self.device.upload(torch.stack(first))
        denoise, correction = self.net(condition if self.rounds is None else None)
        state = self._state(seeds, condition)
        images = np.asarray(quantise(sample(denoise, x_T, self.step, state, correction)).cpu())
        if inputs is not None and self.fills:
            images = np.where(hole_of(inputs), images, inputs[:, :-1])
        return Drawn(images, np.asarray(torch.stack(state.variances).double().cpu()))

    @property
    def steps(self) -> int:
        """How many it takes, without repetitions."""
        return len(self.path) - 1

    def _state(self, seeds: list[int], inputs: Tensor | None) -> SamplerState:
        """The way down, with known pixels and noise where they are needed."""
        noise = per_image_noise(seeds, self.shape, self.device)
        if self.rounds is None or inputs is None:
            return SamplerState(self.schedule, self.path, self.eta, noise, terminal=self.terminal)
        known = Known(inputs[:, :-1], inputs[:, -1:] > 0)
        path = resampled(self.path, self.rounds)
        return SamplerState(self.schedule, path, self.eta, noise, known, self.terminal)


def per_image_noise(seeds: list[int], shape: tuple[int, ...], device: Device) -> Noise:
    """A source of z (N, C, H, W): image i draws from its own generator on the device, whatever its batch."""
    generators = [device.generator(derive_seed(seed, "noise")) for seed in seeds]

    def draw() -> Tensor:
        """The next z of every image."""
        return torch.stack([torch.randn(shape, generator=g, device=device.device) for g in generators])

    return draw


Inputs = Callable[[int, int], NDArray[np.uint8]]
"""(start, stop) -> the conditions of these samples, (stop - start, K, H, W)."""


def sample_all(
    sampler: Sampler, inputs: Inputs | None, seed: int, count: int, batch: int, parts: Path, name: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images in batches, seeds seed, seed + 1, ...; each batch is kept in `parts` for a rerun to find.

    Of several ranks each draws its batches, and then the first yields all, the others none.
    """
    parts.mkdir(parents=True, exist_ok=True)

    def drawn(start: int) -> NDArray[np.uint8]:
        """The images of the batch that starts there."""
        stop, path = min(start + batch, count), parts / f"{start:09d}.npz"
        made = _kept(path)
        if made is None:
            seeds = list(range(seed + start, seed + stop))
            made = sampler.draw(seeds, None if inputs is None else inputs(start, stop))
            with whole_file(path) as beside, beside.open("wb") as file:
                np.savez(file, **made._asdict())
        return made.images

    starts = range(0, count, batch)
    with Progress(name, count) as progress:
        if world() > 1:
            for start in starts[rank() :: world()]:
                drawn(start)
                progress.advance(batch * world())
            wait_for_all()
        for start in () if rank() else starts:
            images = drawn(start)
            yield images
            progress.advance(len(images))


def sampled_variances(parts: Path, count: int) -> NDArray[np.float64]:
    """Of the states of all `count` images kept in `parts`, x_T first: the mean variance of an image's pixels."""
    batches = [np.load(path)["variances"] for path in sorted(parts.glob("*.npz"))]
    return np.asarray(np.sum(batches, axis=0) / count, np.float64)


def _kept(path: Path) -> Drawn | None:
    """A batch that an earlier run kept, compared with the checksums in the file; a damaged one is named."""
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            return Drawn(kept["images"], kept["variances"])
    except Exception as error:  # every damage raises its own kind
        print(f"{path}: not used ({error}); its samples are made again", file=sys.stderr)
        return None
