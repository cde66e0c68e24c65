"""Sample from a model folder without params.yaml, data or DVC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cspipe.data.grid import display_scale, grid
from cspipe.diffusion.denoiser import NetDenoiser
from cspipe.exchange.source import any_device
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.progress import Progress
from cspipe.runtime.registry import find, names_in
from cspipe.sampling.batches import Sampler
from cspipe.sampling.settings import Variant
from cspipe.sampling.state import SAMPLERS
from cspipe.stages.nets import check_fit_against, finished_denoiser, usual_terminal
from cspipe.stages.sample import new_sampler

BATCH, COLUMNS = 64, 8


def variant_of(sampler: str, steps: int | list[int], compensated: bool, terminal: str = "net", **keys: Any) -> Variant:
    """Return a variant with these values and, if compensated, the exact weight kappa. Raises UserError.

    `keys` are other values of the variant; without `eta` among them, it is the sampler's least.
    """
    eta = find(SAMPLERS, sampler, "ETAS")[0] if sampler in names_in(SAMPLERS) else 0.0
    tree = {
        "sampler": sampler, "steps": steps, "eta": eta, "reads": "models" if compensated else "models/main",
        "terminal": terminal,
        "correction": {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None} if compensated else None,
    }  # fmt: skip
    try:
        return Variant.model_validate(tree | keys)
    except ValidationError as error:
        raise UserError(f"sampler {sampler}, steps {steps}: {error.errors()[0]['msg']}") from None


def open_variant(
    variant: Variant, denoise: NetDenoiser, config: dict[str, Any], device: Device, main: Path, compensation: Path
) -> Sampler:
    """Return the sampler of a variant on the net in folder `main`. Raises UserError if they do not suit each other."""
    try:
        variant.path(denoise.schedule.steps)
    except ValueError as error:
        raise UserError(f"{error}, where the net of {main} begins") from None
    if variant.correction is not None and variant.correction.needs_compensator:
        check_fit_against(compensation, main)
    return new_sampler(variant, denoise, config, device, compensation, main)


def draw(
    model: Path, sampler: str, steps: int | list[int], count: int, seed: int, compensation: Path | None
) -> NDArray[np.uint8]:
    """Draw `count` samples as one grid, uint8 (3, H, W), image i from seed + i. Raises UserError."""
    device = any_device()
    denoise, config = finished_denoiser(device, model)
    if config["task"] != "generate":
        raise UserError(f"{model}: a net of task {config['task']} needs an image; see `cspipe {config['task']} --help`")
    variant = variant_of(sampler, steps, compensation is not None, usual_terminal(denoise, model))
    drawn, images = open_variant(variant, denoise, config, device, model, compensation or Path()), []
    with Progress("sample", count) as progress:
        for start in range(0, count, BATCH):
            seeds = list(range(seed + start, seed + min(start + BATCH, count)))
            images.append(drawn(seeds))
            progress.advance(len(seeds))
    shown = grid(np.concatenate(images), min(count, COLUMNS), display_scale(config["size"]))
    return np.asarray(shown).transpose(2, 0, 1)
