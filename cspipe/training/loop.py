"""The loop that both trainings share: batches, curves, training states, and an end when numbers stop being finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cspipe.compute import Device
from cspipe.errors import UserError
from cspipe.progress import Progress
from cspipe.seeds import derive_seed
from cspipe.training.batches import Images, batches
from cspipe.training.checkpoint import Checkpoints

Curve = list[dict[str, float]]
"""Points of the curves, each with `step` (images seen) and the means since the point before."""
Log = Callable[[int, Mapping[str, float]], None]


class Trainee(Protocol):
    """What is trained: it makes steps and its whole state can be stored."""

    def step(self, x0: Tensor, seen: int) -> dict[str, Tensor]:
        """One optimizer step on x0 (N, C, H, W); returns device scalars for the curves, `loss` among them."""

    def after(self, seen: int, batch: int) -> None:
        """Called after each step with the images seen in all."""

    def finite(self) -> bool:
        """Whether every weight is finite; asked before a state is stored."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@dataclass(frozen=True)
class Plan:
    """Lengths of a run, in images."""

    images: int
    batch: int
    log_every: int
    checkpoint_every: int
    seed: int


def crossed(seen: int, batch: int, every: int) -> bool:
    """Whether the last batch went over a multiple of `every` images."""
    return seen // every > (seen - batch) // every


class Means:
    """Averages of the scalars of each step, kept on the device, and the first step at which one was not finite."""

    def __init__(self, device: Device) -> None:
        self._zero = torch.zeros((), device=device.device)
        self.reset()

    def reset(self) -> None:
        """Start a new point of the curves."""
        self.count, self._sums, self._counts = 0, dict[str, Tensor](), dict[str, int]()
        self._step, self._bad = self._zero.clone(), self._zero.clone()

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Take the scalars of one step; nothing waits for the device."""
        self.count += 1
        self._step += 1
        total = self._zero
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, self._zero) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1
            total = total + value.detach()
        first = ~torch.isfinite(total) & (self._bad == 0)
        self._bad = torch.where(first, self._step, self._bad)

    def read(self) -> tuple[dict[str, float], int]:
        """(means, number of the first step that was not finite or 0): the one place that waits for the device."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}, int(self._bad)


def run(
    trainee: Trainee, images: Images, plan: Plan, device: Device, checkpoints: Checkpoints, name: str, log: Log
) -> Curve:
    """Train until plan.images were seen, from the last stored state if there is one; returns the curves.

    Raises UserError when a loss or gradient stops being finite, or when there are fewer images than a batch.
    """
    if len(images) < plan.batch:
        raise UserError(
            f"{name}: {len(images)} training images are fewer than a batch of {plan.batch}; "
            "lower the batch in params.yaml or add pictures"
        )
    seen, curve = _resume(trainee, checkpoints, device, name, log)
    means, saved = Means(device), seen
    with Progress(name, plan.images, seen) as progress:
        for x0 in batches(images, plan.batch, plan.seed, seen, device):
            if seen >= plan.images:
                break
            means.add(trainee.step(x0, seen))
            seen += plan.batch
            trainee.after(seen, plan.batch)
            note = None
            save = seen >= plan.images or seen + plan.batch - saved > plan.checkpoint_every
            # A state is stored at a point of the curves alone, so that none of their means has to be stored with it.
            if save or crossed(seen, plan.batch, plan.log_every):
                point = _point(means, seen, plan, checkpoints, name)
                curve.append(point)
                log(seen, point)
                means.reset()
                note = f"loss {point['loss']:.4f}"
            if save:
                if not trainee.finite():
                    raise _not_finite("a weight", seen - plan.batch, plan, checkpoints, name)
                checkpoints.save(seen, {"trainee": trainee.state_dict(), "curve": curve})
                saved = seen
            progress.advance(plan.batch, note)
    return curve


def _resume(trainee: Trainee, checkpoints: Checkpoints, device: Device, name: str, log: Log) -> tuple[int, Curve]:
    """(images seen, curve so far) from the newest state, whose curve is logged again; (0, []) if there is none."""
    found = checkpoints.load(device.device)
    if found is None:
        return 0, []
    seen, state = found
    trainee.load_state_dict(state["trainee"])
    print(f"{name}: going on from {seen} images ({checkpoints.newest()})")
    for point in state["curve"]:
        log(int(point["step"]), point)
    return seen, state["curve"]


def _point(means: Means, seen: int, plan: Plan, checkpoints: Checkpoints, name: str) -> dict[str, float]:
    """The next point of the curves, or the end of the run if a number in it is not finite."""
    values, bad = means.read()
    if not bad:
        return {"step": seen, **values}
    raise _not_finite("the loss or gradient", seen - (means.count - bad + 1) * plan.batch, plan, checkpoints, name)


def _not_finite(what: str, seen: int, plan: Plan, checkpoints: Checkpoints, name: str) -> UserError:
    """The end of a run: `what` was not finite after the step that started at `seen` images."""
    return UserError(
        f"{name}: {what} stopped being finite at {seen} images seen (seed of that step "
        f"{derive_seed(plan.seed, 'step', seen)}); last good state: {checkpoints.newest() or 'none'}. "
        "Lower the learning rate or the compensation scale in params.yaml."
    )
