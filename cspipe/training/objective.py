"""The loss of the main net on a micro-batch: the plain one, and that of the training method beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from cspipe.config.params import Train
from cspipe.corrections.compensation import CompensationWeight
from cspipe.diffusion.denoiser import NetDenoiser
from cspipe.diffusion.losses import Pair, plain_pair
from cspipe.diffusion.perturbation import perturb
from cspipe.methods import OwnSteps
from cspipe.training.draws import Draw, Draws, Ladder
from cspipe.training.module import ModuleFit


@dataclass(frozen=True)
class Objective:
    """What the main net is trained for."""

    net: nn.Module
    denoise: NetDenoiser
    """The same net."""
    settings: Train
    method: ModuleType
    """A file of cspipe/methods."""
    fit: ModuleFit | None
    """The module C, if the method uses it."""
    epoch: int
    """Images of one pass over the training set."""

    def draws(self, seed: int) -> Draws:
        """What is drawn for a step."""
        settings, schedule = self.settings.compensation, self.denoise.schedule
        ladder = Ladder.of(schedule.steps, settings.path, settings.gap, schedule.signal.device)
        perturbed = self.settings.perturbation > 0
        return Draws(seed, schedule.steps, self.settings.flip, ladder, perturbed, self.method.DRAWS_NOISE)

    def share(self, seen: int) -> float:
        """Share of a batch on the method's path after so many images: 0 until train.compensation.start."""
        since = seen - self.settings.compensation.start
        if since < 0:
            return 0.0
        return cast(float, self.method.share(self.settings.compensation, since / self.settings.images))

    @property
    def fit_until(self) -> int:
        """Images seen when the module is frozen."""
        return self.settings.compensation.start + self.settings.compensation.epochs * self.epoch

    def fits(self, seen: int) -> bool:
        """Whether the module learns in the step that starts there."""
        return self.fit is not None and self.settings.compensation.start <= seen < self.fit_until

    @property
    def _fit(self) -> ModuleFit:
        assert self.fit is not None, "only where the method uses it"
        return self.fit

    def learn(self, part: Draw, fitting: bool) -> tuple[Tensor, Tensor]:
        """Add the gradients of a micro-batch; returns its parts of the batch's (loss, module's loss)."""
        schedule = self.denoise.schedule
        part_of_batch = self.settings.micro_batch / self.settings.batch
        pair = plain_pair(self.denoise.prediction, part.x0, part.e, part.t, schedule)
        denoise, module_loss = self.denoise.given(part.condition), part.x0.new_zeros(())
        with self.quiet():
            x0h = self._estimates(part, pair, fitting)
            shown = x0h
            if fitting and self._fit.settings.states != "forward":
                shown = self._fit.estimate(self.denoise, part)
            if part.compensated:
                pair = self._own(part, pair, x0h).followed_by(pair.after(part.compensated))
            if part.xi is not None:
                pair = pair._replace(x=perturb(pair.x, part.xi, pair.t, self.settings.perturbation, schedule))
            if denoise.net.recalls and part.recall:
                denoise = denoise.told(denoise(pair.x, pair.t))
        if fitting:
            module_loss = self._fit.learn(part, shown, part_of_batch)
        loss = pair.loss(denoise.output(pair.x, pair.t)) * part_of_batch
        loss.backward()
        return loss.detach(), module_loss

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """The net as in sampling: without dropout and gradient."""
        self.net.eval()
        with torch.no_grad():
            yield
        self.net.train()

    def _estimates(self, part: Draw, pair: Pair, fitting: bool) -> Tensor:
        """The net's clean estimates of the forward states that are needed, the first images'.

        A module that learns on them does so from every image; the method's path needs its own share alone.
        """
        all_of_them = fitting and self._fit.settings.states == "forward"
        known = part.slice(0, len(part.t) if all_of_them else part.compensated)
        if not len(known.t):
            return part.x0[:0]
        return self.denoise.given(known.condition)(pair.x[: len(known.t)], known.t)

    def _own(self, part: Draw, pair: Pair, x0h: Tensor) -> Pair:
        """What the images on the method's path are to the net."""
        k, own, settings = part.compensated, part.slice(0, part.compensated), self.settings.compensation
        schedule = self.denoise.schedule
        assert own.way is not None, "drawn with these images"
        steps = OwnSteps(
            x0=own.x0,
            e=own.e,
            x_t=pair.x[:k],
            x0h=x0h[:k],
            way=own.way,
            z=own.z,
            denoise=self.denoise.given(own.condition),
            prediction=self.denoise.prediction,
            schedule=schedule,
            module=None if self.fit is None else self.fit.c.given(own.condition),
            weight=CompensationWeight(schedule, settings.weight, settings.scale, settings.cap),
        )
        return cast(Pair, self.method.pair(steps))
