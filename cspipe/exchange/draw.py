"""Samples of a model folder: no params.yaml, no data, no DVC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cspipe.data.grid import display_scale, grid
from cspipe.exchange.source import any_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.progress import Progress
from cspipe.sampling.settings import Variant
from cspipe.stages.nets import check_fit_against, finished_denoiser, usual_terminal
from cspipe.stages.sample import new_sampler

BATCH, COLUMNS = 64, 8


def variant_of(sampler: str, steps: int, compensated: bool, terminal: str = "net") -> Variant:
    """A row of `variants` with these values and, compensated, the exact weight kappa. Raises UserError."""
    correction = {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None} if compensated else None
    reads = "models" if compensated else "models/main"
    keys = {"sampler": sampler, "steps": steps, "reads": reads, "terminal": terminal, "snapshot": None}
    keys |= {"correction": correction, "repaint": None}
    problem = ""
    for eta in (0.0, 1.0):  # ddpm knows 1 alone
        try:
            return Variant.model_validate({**keys, "eta": eta})
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
    raise UserError(f"--sampler {sampler} with {steps} steps: {problem}")


def draw(
    model: Path, sampler: str, steps: int, count: int, seed: int, compensation: Path | None
) -> NDArray[np.uint8]:  # fmt: skip
    """A grid (3, H, W) of `count` samples, image i of seed + i. Raises UserError."""
    device = any_device()
    denoise, config = finished_denoiser(device, model)
    variant = variant_of(sampler, steps, compensation is not None, usual_terminal(denoise, model))
    if config["task"] != "generate":
        raise UserError(f"{model}: a net of task {config['task']} needs an image; see `cspipe {config['task']} --help`")
    if steps > denoise.schedule.steps:
        raise UserError(f"--steps {steps}: the net of {model} knows {denoise.schedule.steps} at most")
    if compensation is not None:
        check_fit_against(compensation, model)
    drawn, images = new_sampler(variant, denoise, config, device, compensation or Path(), model), []
    with Progress("sample", count) as progress:
        for start in range(0, count, BATCH):
            seeds = list(range(seed + start, seed + min(start + BATCH, count)))
            images.append(drawn(seeds))
            progress.advance(len(seeds))
    shown = grid(np.concatenate(images), min(count, COLUMNS), display_scale(config["size"]))
    return np.asarray(shown).transpose(2, 0, 1)
