"""The gradients of a batch, added up from micro-batches; too large ones are halved."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cspipe.runtime.collectives import all_agree, average_gradients, gradients_kept
from cspipe.training.stream import FIRST_STEPS
from cspipe.training.train_sample import TrainSample

Backward = Callable[[TrainSample, float], tuple[Tensor, ...]]
"""Adds the gradients of a micro-batch, which is such a share of the batch; returns its parts of the batch's losses."""


class Accumulation:
    """Calls with a sample leave its gradients, averaged over the ranks, and return its losses.

    What is out of memory in the first steps is tried again with half of the micro-batch, by all ranks: the result is
    the same up to the order of sums.
    """

    def __init__(self, micro_batch: int, nets: Sequence[nn.Module]) -> None:
        self.micro_batch, self.nets, self.steps = micro_batch, nets, 0

    def __call__(self, sample: TrainSample, backward: Backward) -> list[Tensor]:
        """Ranks exchange gradients while the last backward pass runs; in the first steps after it, if all are well."""
        self.steps += 1
        first = self.steps <= FIRST_STEPS
        losses = self._losses(sample, backward, first)
        while first and not all_agree(losses is not None):
            self._halve(len(sample.t))
            losses = self._losses(sample, backward, first)
        if first:
            average_gradients(self.nets)
        assert losses is not None, "out of memory is raised"
        return losses

    def _losses(self, sample: TrainSample, backward: Backward, first: bool) -> list[Tensor] | None:
        """The losses, with gradients added up; None if the memory does not suffice for a first step."""
        count, losses = len(sample.t), [sample.x0.new_zeros(())] * 2
        try:
            for start in range(0, count, self.micro_batch):
                stop = min(start + self.micro_batch, count)
                with gradients_kept(self.nets, first or stop < count):
                    parts = backward(sample.slice(start, stop), (stop - start) / count)
                losses = [loss + part for loss, part in zip(losses, parts, strict=False)]
        except torch.OutOfMemoryError:
            if not first or min(self.micro_batch, count) == 1:
                raise
            return None
        return losses

    def _halve(self, count: int) -> None:
        """Forget what was added up, and try less at a time."""
        self.micro_batch = min(self.micro_batch, count) // 2
        for net in self.nets:
            net.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        print(
            f"train.micro_batch: out of memory; going on with {self.micro_batch} images at a time, and the same batch",
            file=sys.stderr,
            flush=True,
        )
