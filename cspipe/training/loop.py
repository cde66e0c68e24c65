"""The training loop of the main net and of C: batches, curves, stored states, and an error for non-finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.collectives import averaged, from_first, together, wait_for_all
from cspipe.runtime.device import Device
from cspipe.runtime.errors import NotFinite, UserError
from cspipe.runtime.preemption import Preempted
from cspipe.runtime.progress import Progress
from cspipe.runtime.ranks import rank, world
from cspipe.runtime.tracking import Log
from cspipe.training.stream import Batch, TrainingSet, batches

Curve = list[dict[str, float]]
"""Points of the curves, each with `step` (images seen) and the averages since the point before."""
SECONDS_BEFORE_THE_END, SECONDS_FOR_THE_LAST_STATE = 20.0, 120.0
"""Longest waits for S3, in seconds: at an early end, as SIGKILL follows SIGTERM after 30 seconds; and, longer, at the
end of a finished run, to know that the run is still ours."""


class Trainer(Protocol):
    """Interface of the trainers: they make steps, and their whole state can be stored."""

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """Make one optimizer step on a batch; return device scalars for the curves, `loss` among them."""

    def after(self, seen: int, batch: int) -> None:
        """Do what is due after a step, with `seen` images seen in all."""

    def finite(self) -> bool:
        """Whether every weight is finite; asked before a state is stored."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


@dataclass(frozen=True)
class Plan:
    """Lengths of a run, in images, and the seed of its data order."""

    images: int
    batch: int
    log_every: int
    checkpoint_every: int
    seed: int


def crossed(seen: int, batch: int, every: int) -> bool:
    """Whether the last batch reached or passed a multiple of `every` images."""
    return seen // every > (seen - batch) // every


class MetricMeter:
    """Averages of the scalars of each step, kept on the device, and the first step at which one was not finite."""

    def __init__(self, device: Device) -> None:
        self._zero = torch.zeros((), device=device.device)
        self.reset()

    def reset(self) -> None:
        """Start a new point of the curves."""
        self.count, self._sums, self._counts = 0, dict[str, Tensor](), dict[str, int]()
        self._step, self._bad = self._zero.clone(), self._zero.clone()

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Add the scalars of one step, without waiting for the device."""
        self.count += 1
        self._step += 1
        total = self._zero
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, self._zero) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1
            total = total + value.detach()
        first = ~torch.isfinite(total) & (self._bad == 0)
        self._bad = torch.where(first, self._step, self._bad)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and counts of the point of the curves that is not complete yet."""
        return {
            "count": self.count, "sums": self._sums, "counts": self._counts, "step": self._step, "bad": self._bad
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, with its tensors on the device."""
        self.count, self._sums, self._counts = state["count"], dict(state["sums"]), dict(state["counts"])
        self._step, self._bad = state["step"], state["bad"]

    def read(self) -> tuple[dict[str, float], int]:
        """Return (averages, number of the first step not finite, or 0); no other method waits for the device."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}, int(self._bad)


@dataclass
class TrainState:
    """Progress of a run: with the trainer's state, all that the rest of the run depends on."""

    meter: MetricMeter
    seen: int = 0
    saved: int = 0
    """Images seen at the last state stored on schedule; a state stored at an early end does not move the next one."""
    curve: Curve = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of images, the curve and the state of the meter."""
        return {"seen": self.seen, "saved": self.saved, "curve": self.curve, "meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.seen, self.saved, self.curve = state["seen"], state["saved"], state["curve"]
        self.meter.load_state_dict(state["meter"])


def run(
    trainer: Trainer,
    data: TrainingSet,
    plan: Plan,
    device: Device,
    checkpoints: Checkpoints,
    name: str,
    log: Log,
    stopping: Callable[[], bool] = lambda: False,
) -> Curve:
    """Train until plan.images were seen, from the last stored state if there is one; return the curves.

    Raises Preempted after a step, its state stored, when `stopping` is true; UserError when a loss or gradient stops
    being finite, when there are fewer images than a batch, or when another worker took the run over.
    """
    _check_size(data, plan, name)
    stop = together(stopping)
    at = _resume(trainer, checkpoints, device, name, log)
    with Progress(name, plan.images, at.seen) as progress:
        for batch in batches(data, plan.batch, plan.seed, at.seen, device):
            if at.seen >= plan.images:
                break
            if stop():
                _stop(trainer, at, plan, checkpoints, name)
            at.meter.add(averaged(trainer.step(batch, at.seen)))
            at.seen += plan.batch
            trainer.after(at.seen, plan.batch)
            save = at.seen >= plan.images or at.seen + plan.batch - at.saved > plan.checkpoint_every
            note = None
            if save or crossed(at.seen, plan.batch, plan.log_every):
                point = _point(at, plan, checkpoints, name)
                log(at.seen, point)
                note = f"loss {point['loss']:.4f}"
            if save:
                at.saved = at.seen
                _save(trainer, at, plan, checkpoints, name)
            progress.advance(plan.batch, note)
    checkpoints.flush(SECONDS_FOR_THE_LAST_STATE)
    return at.curve


def _check_size(data: TrainingSet, plan: Plan, name: str) -> None:
    if len(data) < plan.batch:
        raise UserError(
            f"{name}: {len(data)} training images are fewer than a batch of {plan.batch}; "
            "lower the batch in params.yaml or add images"
        )
    if plan.batch % world():
        raise UserError(
            f"{name}: a batch of {plan.batch} cannot be shared by {world()} GPUs (compute.gpus x compute.nodes); "
            "set batch to a multiple in params.yaml"
        )


def _resume(trainer: Trainer, checkpoints: Checkpoints, device: Device, name: str, log: Log) -> TrainState:
    """Restore the newest stored state and log its curve again; return the progress, of a new run if there is none."""
    at = TrainState(MetricMeter(device))
    found = from_first(checkpoints.load(device.device) if rank() == 0 else None, device.device)
    if found is not None:
        seen, state = found
        trainer.load_state_dict(state["trainer"])
        at.load_state_dict(state["place"])
        print(f"{name}: going on from {seen} images ({checkpoints.newest()})")
        for point in at.curve:
            log(int(point["step"]), point)
    return at


def _save(trainer: Trainer, at: TrainState, plan: Plan, checkpoints: Checkpoints, name: str) -> None:
    """Store the state of the run. Raises NotFinite if a weight is not finite."""
    if not trainer.finite():
        raise _not_finite("a weight", at.seen - plan.batch, plan, checkpoints, name)
    if rank() == 0:
        checkpoints.save(at.seen, {"trainer": trainer.state_dict(), "place": at.state_dict()})


def _stop(trainer: Trainer, at: TrainState, plan: Plan, checkpoints: Checkpoints, name: str) -> None:
    """End early with everything stored, also between two points of the curves. Raises Preempted."""
    if at.seen != at.saved:
        _save(trainer, at, plan, checkpoints, name)
    checkpoints.flush(SECONDS_BEFORE_THE_END)
    wait_for_all()  # the first rank to end ends the others
    raise Preempted(f"stopped at {at.seen} images, its state stored; the same command goes on from there")


def _point(at: TrainState, plan: Plan, checkpoints: Checkpoints, name: str) -> dict[str, float]:
    """Add the next point to the curves and return it. Raises NotFinite if a number in it is not finite."""
    values, bad = at.meter.read()
    if bad:
        first = at.seen - (at.meter.count - bad + 1) * plan.batch
        raise _not_finite("the loss or gradient", first, plan, checkpoints, name)
    point = {"step": at.seen, **values}
    at.curve.append(point)
    at.meter.reset()
    return point


def _not_finite(what: str, seen: int, plan: Plan, checkpoints: Checkpoints, name: str) -> NotFinite:
    """Return the error that says that `what` was not finite after the step that started at `seen` images."""
    return NotFinite(
        f"{name}: {what} stopped being finite at {seen} images seen (seed of that step "
        f"{derive_seed(plan.seed, 'step', seen)}); last good state: {checkpoints.newest() or 'none'}. "
        "Lower the learning rate or the compensation scale in params.yaml."
    )
