"""Accumulation of a batch's gradients over micro-batches, which are halved when memory runs out."""

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
"""(micro-batch, its share of the batch) -> its parts of the batch's losses; adds its gradients to those of the nets."""


class Accumulation:
    """Callable that leaves the gradients of a sample, averaged over the ranks, in the nets and returns its losses.

    A pass of the first FIRST_STEPS steps that runs out of memory is repeated by all ranks with half the micro-batch.
    The result is the same up to the order of sums and the numbers that dropout draws.
    """

    def __init__(self, micro_batch: int, nets: Sequence[nn.Module]) -> None:
        self.micro_batch, self.nets = micro_batch, nets
        self.steps = 0
        """Number of steps since the memory that a step needs last changed."""

    def __call__(self, sample: TrainSample, backward: Backward) -> list[Tensor]:
        """Add up gradients; ranks exchange them during the last backward pass, in passes known to fit into memory."""
        self.steps += 1
        first, count = self.steps <= FIRST_STEPS, len(sample.t)
        if first and world() > 1:
            while not all_agree(self._rehearse(sample, backward, alone=True)):
                self._halve(count)
            if self.steps == 1:  # the first exchange settles how later ones are split, and so the order of sums
                self._rehearse(sample, backward, alone=False)
        while (losses := self._losses(sample, backward, may_fail=first and world() == 1)) is None:
            self._halve(count)
        return losses

    def _rehearse(self, sample: TrainSample, backward: Backward, alone: bool) -> bool:
        """Whether the memory suffices for `sample`; gradients are dropped, random numbers restored."""
        device = sample.x0.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            fits = self._losses(sample, backward, alone, alone) is not None
        self._forget()
        return fits

    def _losses(
        self, sample: TrainSample, backward: Backward, may_fail: bool, alone: bool = False
    ) -> list[Tensor] | None:
        """Return the losses and add up gradients, of this rank if `alone`; None if out of memory and `may_fail`."""
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
        """Drop the gradients added up so far, and halve the micro-batch."""
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
