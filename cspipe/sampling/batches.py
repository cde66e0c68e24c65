"""Sampling of many images: one seed per image, and batches that a restarted run need not repeat."""

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
    """A batch of samples and the variances of their states."""

    images: NDArray[np.uint8]
    """Samples (N, C, H, W), 0..255."""
    variances: NDArray[np.float64]
    """Sum over images of the variance of an image's pixels, for each state of sampling, x_T first."""


@dataclass(frozen=True)
class Sampler:
    """A main net with a way to sample from it."""

    net: Callable[[Tensor | None], Corrected]
    """Function from a condition (N, K, H, W) in [-1, 1] or None to the denoiser and the hook after each step."""
    schedule: Schedule
    shape: tuple[int, int, int]
    """Shape (C, H, W) of an image."""
    step: Step
    path: list[int]
    """Native timesteps from T to 0 between which the steps go, without repetitions."""
    eta: float
    device: Device
    fills: bool = False
    """Whether the inputs are inpainting conditions: pixels outside of their holes are kept."""
    rounds: int | None = None
    """Times that each step is taken by RePaint (known pixels in an unconditional net's states); None: no RePaint."""
    terminal: Tensor | None = None
    """Clean estimate (C, H, W) at T in place of the net's; None: the net's."""

    def __call__(self, seeds: list[int], inputs: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Sample images (N, C, H, W), each from a seed and, with a condition, an input of (N, K, H, W).

        An image does not depend on the others (but for rounding).
        """
        return self.draw(seeds, inputs).images

    def draw(self, seeds: list[int], inputs: NDArray[np.uint8] | None = None) -> Drawn:
        """Sample the same images as a call, and the variances of their states."""
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
        """Number of steps, without repetitions."""
        return len(self.path) - 1

    def _state(self, seeds: list[int], inputs: Tensor | None) -> SamplerState:
        """Return the state of a new trajectory: with RePaint, it has known pixels and repeats steps."""
        noise = per_image_noise(seeds, self.shape, self.device)
        if self.rounds is None or inputs is None:
            return SamplerState(self.schedule, self.path, self.eta, noise, terminal=self.terminal)
        known = Known(inputs[:, :-1], inputs[:, -1:] > 0)
        path = resampled(self.path, self.rounds)
        return SamplerState(self.schedule, path, self.eta, noise, known, self.terminal)


def per_image_noise(seeds: list[int], shape: tuple[int, ...], device: Device) -> Noise:
    """Return a source of z (N, C, H, W): image i draws from its own generator on the device, whatever its batch."""
    generators = [device.generator(derive_seed(seed, "noise")) for seed in seeds]

    def draw() -> Tensor:
        """Draw the next z of every image."""
        return torch.stack([torch.randn(shape, generator=g, device=device.device) for g in generators])

    return draw


Inputs = Callable[[int, int], NDArray[np.uint8]]
"""(start, stop) -> the conditions of samples start..stop, (stop - start, K, H, W)."""


def sample_all(
    sampler: Sampler, inputs: Inputs | None, seed: int, count: int, batch: int, parts: Path, name: str
) -> Iterator[NDArray[np.uint8]]:
    """Yield `count` images in batches, seeds seed, seed + 1, ...; each batch is kept in `parts` for a rerun to find.

    With several ranks, each draws its share of the batches, and then rank 0 yields all, the others none.
    """
    parts.mkdir(parents=True, exist_ok=True)

    def drawn(start: int) -> NDArray[np.uint8]:
        """Return the images of the batch that starts at sample `start`, drawn unless kept."""
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
    """Return the mean variance of an image's pixels over the `count` images in `parts`, for each state, x_T first."""
    batches = [np.load(path)["variances"] for path in sorted(parts.glob("*.npz"))]
    return np.asarray(np.sum(batches, axis=0) / count, np.float64)


def _kept(path: Path) -> Drawn | None:
    """Return a batch that an earlier run kept, checked by the checksums in the file; None if missing or damaged.

    A damaged file is named on stderr.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            return Drawn(kept["images"], kept["variances"])
    except Exception as error:  # every damage raises its own kind
        print(f"{path}: not used ({error}); its samples are made again", file=sys.stderr)
        return None
