"""Checks before the first step of training, for what would otherwise stop a run hours after its start."""

from __future__ import annotations

import sys
from pathlib import Path

from cspipe.config.params import Params
from cspipe.evaluation.settings import FEWEST, INCEPTION_WEIGHTS, EvaluateSettings
from cspipe.ingest.settings import SOURCES, DataSettings
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import choice, find
from cspipe.runtime.stage import PREPARED
from cspipe.training.settings import METHODS

HEUN_STEPS = 20
"""Number of Heun steps up to which, with the cosine schedule, a single one covers most of the way in log sigma."""


def check_before_training(params: Params, images: int) -> None:
    """Check that training on a set of `images` images, and the stages after it, can do what params.yaml asks.

    Prints what is unusual but possible. Raises UserError naming key, value and fix.
    """
    train = params.train
    for member in ("USES_COMPENSATOR", "DRAWS_NOISE", "share", "pair"):
        find(METHODS, train.method, member)
    for key, batch in ("train.batch", train.batch), ("compensation.batch", params.compensation.batch):
        if batch > images:
            raise UserError(
                f"params.yaml: {key} {batch} is more than the {images} training images, so no step could be taken; set "
                f"it to {images} or less, or add images"
            )
    start, epochs = train.compensation.start, train.compensation.epochs
    needed = start + epochs * images
    if find(METHODS, train.method, "USES_COMPENSATOR") and train.images < needed:
        print(  # no error: a short try of a large preset is fine
            f"train: train.images {train.images} is less than train.compensation.start {start} and epochs {epochs} x "
            f"{images} training images, so C is never frozen; a real run sees {needed} or more",
            file=sys.stderr,
        )
    if train.images < max(train.snapshots, default=0):  # fine for a short try, too
        print(f"train: train.snapshots {train.snapshots} end with train.images {train.images}", file=sys.stderr)
    if params.diffusion.prediction == "edm" and train.timesteps == "uniform":
        print("train: diffusion.prediction is edm, but train.timesteps is uniform; EDM's is lognormal", file=sys.stderr)
    few = [
        name for name, variant in params.variants.items() if variant.sampler == "heun" and variant.count <= HEUN_STEPS
    ]
    if few and params.diffusion.schedule == "cosine":
        print(
            f"train: variants.{few[0]}.sampler is heun with diffusion.schedule cosine, whose first step is too coarse "
            f"with {HEUN_STEPS} steps or fewer; take karras, or another sampler",
            file=sys.stderr,
        )
    _check_weights(params.evaluate)


def check_held_out(images: int) -> None:
    """Raise UserError if there are too few held-out images for scores."""
    if images < FEWEST:
        raise UserError(
            f"{PREPARED}: {images} held-out images, and scores compare at least {FEWEST}, so none could be scored; "
            "raise data.held_out or data.limit in params.yaml, or add images"
        )


def needed_files(data: DataSettings) -> Path | None:
    """Return the path whose files the source reads; None if it reads none, or downloads what is missing."""
    return None if getattr(choice(SOURCES, data.source), "DOWNLOADS", False) else data.path


def dvc_files(path: Path) -> list[Path]:
    """Return the .dvc files of which one exists if DVC tracks `path`."""
    return [Path(f"{each}.dvc") for each in (path, *path.parents)]


def _check_weights(evaluate: EvaluateSettings) -> None:
    """Raise UserError if params.yaml names a file of the extractor's weights that does not exist."""
    if evaluate.weights is None or evaluate.weights.is_file():
        return
    fix = f"put there {INCEPTION_WEIGHTS}" if evaluate.extractor == "inception-v3-compat" else "set it to null"
    raise UserError(
        f"params.yaml: evaluate.weights {evaluate.weights} is no file, so the samples could not be scored with "
        f"{evaluate.extractor}; {fix}, or correct the path"
    )
