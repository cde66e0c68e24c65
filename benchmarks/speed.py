"""Measure training and sampling on one device: images/s, peak memory, share of the device's matrix speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cspipe.config.overlays import read_preset, set_keys
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from cspipe.config.workload import Cost, costs
from cspipe.runtime.device import Device
from cspipe.stages.sample import new_sampler
from cspipe.stages.train import new_trainer
from cspipe.training.diffusion_trainer import DiffusionTrainer
from cspipe.training.stream import Batch, TrainingSet

WARM_UP, ROUNDS, LONG = 3, 5, 0.5
"""Number of calls before the clock counts (kernels are chosen, nets compiled), and of timed spans, whose median counts;
one warm-up and two spans where a call takes over LONG seconds."""


@dataclass(frozen=True)
class Mode:
    """Precision, compilation and memory layout of nets."""

    precision: torch.dtype
    compile: bool = False
    other_layout: bool = False
    """Whether nets have another layout than in their libraries: ours contiguous, diffusers' with the channels last."""


MODES = {
    "bfloat16": Mode(torch.bfloat16),
    "bfloat16 other layout": Mode(torch.bfloat16, other_layout=True),
    "bfloat16 compiled": Mode(torch.bfloat16, compile=True),
    "bfloat16 compiled other layout": Mode(torch.bfloat16, compile=True, other_layout=True),
    "float32 (TF32)": Mode(torch.float32),
}


class Noise:
    """A training set of random images in memory."""

    def __init__(self, shape: tuple[int, int, int], count: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images at `indices`, uint8 (len(indices), C, H, W)."""
        return self.pixels[indices]


def preset(name: str, changes: dict[str, Any]) -> Params:
    """Return a preset with changes by dotted key, scored by an extractor that needs no weights file."""
    free = {"evaluate.extractor": "efficientnet-lite0", "evaluate.weights": None}
    return parse_params(set_keys(read_preset(name).tree, free | changes, "benchmarks"), "benchmarks")


@dataclass(frozen=True)
class Clock:
    """Measures time and memory of calls on a device."""

    device: torch.device
    least: float
    """Minimum length of a timed span, in seconds."""

    def wait(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, action: Callable[[], object]) -> float:
        """Return the median seconds of a call."""
        self._span(action, 1)
        if (once := self._span(action, 1)) > LONG:
            return statistics.median([once, self._span(action, 1)])
        self._span(action, WARM_UP - 1)
        calls = 1
        while min(self._span(action, calls), self._span(action, calls)) < self.least:  # a stall may lengthen one
            calls *= 2
        return statistics.median(self._span(action, calls) for _ in range(ROUNDS)) / calls

    def _span(self, action: Callable[[], object], calls: int) -> float:
        """Return the seconds that `calls` calls take."""
        self.wait()
        start = time.perf_counter()
        for _ in range(calls):
            action()
        self.wait()
        return time.perf_counter() - start

    def peak_bytes(self, action: Callable[[], object]) -> int | None:
        """Return the peak GPU memory that torch allocated during a call, in bytes; None on the CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        action()
        return torch.cuda.max_memory_allocated(self.device)


def matrix_flops(clock: Clock, precision: torch.dtype, side: int) -> float:
    """Measure the FLOP/s of a product of square matrices: what the device reaches at its best."""
    a, b = (torch.randn(side, side, device=clock.device, dtype=precision) for _ in range(2))
    return 2 * side**3 / clock.seconds(lambda: a @ b)


def new_batch(params: Params, device: torch.device) -> Batch:
    """Return a batch of random images that is on the device already."""
    size = params.data.size
    return Batch(torch.randn(params.train.batch, params.data.channels, size, size, device=device), None)


def figures(params: Params, clock: Clock, step: Callable[[], object], cost: Cost, matrices: float) -> dict[str, Any]:
    """Measure a training step; its share of matrix speed counts the net's forward and backward pass, no other work."""
    spent = clock.seconds(step)
    rate = params.train.batch / spent
    return {
        "images_per_second": rate,
        "milliseconds_per_step": 1000 * spent,
        "peak_bytes": clock.peak_bytes(step),
        "parameters": cost.parameters,
        "share_of_matrix_speed": cost.training * rate / matrices,
    }


def new_training(params: Params, mode: Mode, device: torch.device) -> DiffusionTrainer:
    """Return the trainer of the train stage, in a mode."""
    trainer = new_trainer(params, TrainingSet(noise(params)), Device(device, mode.precision, mode.compile))
    if mode.other_layout:
        for net in (trainer.net, trainer.ema.net):
            net.to(memory_format=torch.contiguous_format)
    return trainer


def training_speed(params: Params, mode: Mode, clock: Clock, matrices: float) -> dict[str, Any]:
    """Measure a step of the train stage."""
    return figures(params, clock, training_step(params, mode, clock.device), costs(params)[0], matrices)


def training_step(params: Params, mode: Mode, device: torch.device) -> Callable[[], object]:
    """Return a step in the middle of a training: the method's path has begun, and C is fit."""
    trainer, batch = new_training(params, mode, device), new_batch(params, device)
    return lambda: trainer.step(batch, params.train.images // 2)


def noise(params: Params) -> Noise:
    """Return enough random images for the checks that are made before a training."""
    count = max(params.compensation.batch, params.train.batch)
    return Noise((params.data.channels, params.data.size, params.data.size), count)


def sampling_speed(params: Params, variant: str, mode: Mode, clock: Clock) -> dict[str, Any]:
    """Measure the sampling of a variant's batch, from seeds to images on the CPU."""
    trainer = new_training(params, mode, clock.device)
    trainer.net.eval().requires_grad_(False)
    config = {"channels": params.data.channels, "size": params.data.size, "task": params.task}
    asks_net = params.variants[variant].model_copy(update={"terminal": "net"})  # no mean image is stored
    sampler = new_sampler(asks_net, trainer.denoise, config, trainer.denoise.net.device)
    seeds = list(range(params.sample.batch))
    spent = clock.seconds(lambda: sampler(seeds))
    return {"images_per_second": len(seeds) / spent, "steps": params.variants[variant].steps}
