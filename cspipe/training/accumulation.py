"""The gradients of a batch, added up from micro-batches; too large ones are halved."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cspipe.runtime.collectives import all_agree, gradients_kept
from cspipe.runtime.ranks import world
from cspipe.training.stream import FIRST_STEPS
from cspipe.training.train_sample import TrainSample

Backward = Callable[[TrainSample, float], tuple[Tensor, ...]]
"""Adds the gradients of a micro-batch, which is such a share of the batch; returns its parts of the batch's losses."""


class Accumulation:
    """Calls with a sample leave its gradients, averaged over the ranks, and return its losses.

    What is out of memory in the first steps is tried again with half of the micro-batch, by all ranks: the result is
    the same up to the order of sums, and to what dropout draws.
    """

    def __init__(self, micro_batch: int, nets: Sequence[nn.Module]) -> None:
        self.micro_batch, self.nets = micro_batch, nets
        self.steps = 0
        """Since the memory that a step needs was last known to change."""

    def __call__(self, sample: TrainSample, backward: Backward) -> list[Tensor]:
        """Ranks exchange gradients while the last backward pass runs, in passes that are known to fit into memory."""
        self.steps += 1
        first, count = self.steps <= FIRST_STEPS, len(sample.t)
        if first and world() > 1:
            while not all_agree(self._rehearse(sample, backward, alone=True)):
                self._halve(count)
            if self.steps == 1:  # the first exchange settles how later ones are cut, and so the order of sums
                self._rehearse(sample, backward, alone=False)
        while (losses := self._losses(sample, backward, may_fail=first and world() == 1)) is None:
            self._halve(count)
        return losses

    def _rehearse(self, sample: TrainSample, backward: Backward, alone: bool) -> bool:
        """Whether the memory suffices; gradients and random numbers are left as they were."""
        device = sample.x0.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            fits = self._losses(sample, backward, alone, alone) is not None
        self._forget()
        return fits

    def _losses(
        self, sample: TrainSample, backward: Backward, may_fail: bool, alone: bool = False
    ) -> list[Tensor] | None:
        """The losses, with gradients added up, `alone` those of this rank; None if it may fail for want of memory."""
        count, losses = len(sample.t), [sample.x0.new_zeros(())] * 2
        try:
            for start in range(0, count, self.micro_batch):
                stop = min(start + self.micro_batch, count)
                with gradients_kept(self.nets, alone or stop < count):
                    parts = backward(sample.slice(start, stop), (stop - start) / count)
                losses = [loss + part for loss, part in zip(losses, parts, strict=False)]
        except torch.OutOfMemoryError:
            if not may_fail or min(self.micro_batch, count) == 1:
                raise
            return None
        return losses

    def _halve(self, count: int) -> None:
        """Forget what was added up, and try less at a time."""
        self._forget()
        torch.cuda.empty_cache()
        self.micro_batch = min(self.micro_batch, count) // 2
        print(
            f"train.micro_batch: out of memory; going on with {self.micro_batch} images at a time, and the same batch",
            file=sys.stderr,
            flush=True,
        )

    def _forget(self) -> None:
        for net in self.nets:
            net.zero_grad(set_to_none=True)
