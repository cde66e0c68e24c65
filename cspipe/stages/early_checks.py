"""What would stop a run hours after it started, told before the first step of training."""

from __future__ import annotations

import sys

from cspipe.errors import UserError
from cspipe.params import INCEPTION_WEIGHTS, Evaluate, Params
from cspipe.stages.inputs import open_inputs


def check_before_training(params: Params, images: int) -> None:
    """Whether training on a set of so many images, and the stages after it, can do what params.yaml asks.

    Prints what is odd and possible. Raises UserError naming key, value and fix.
    """
    batch, train = params.compensation.batch, params.train
    if batch > images:
        raise UserError(
            f"params.yaml: compensation.batch {batch} is more than the {images} training images, so the compensate "
            f"stage could not take a step; set it to {images} or less, or add pictures"
        )
    epochs = train.compensation.epochs
    if train.method == "compensated" and train.images < epochs * images:
        print(  # no error: a short try of a large preset is fine
            f"train: train.images {train.images} is less than train.compensation.epochs {epochs} x {images} training "
            f"images, so the module is never frozen; a real run sees {epochs * images} or more",
            file=sys.stderr,
        )
    _check_weights(params.evaluate)
    for variant in params.variants.values():
        open_inputs(params, variant)  # tells if there are fewer held-out pictures than it samples


def _check_weights(evaluate: Evaluate) -> None:
    """Raises UserError if the extractor's weights are named but not there."""
    if evaluate.weights is None or evaluate.weights.is_file():
        return
    fix = f"put there {INCEPTION_WEIGHTS}" if evaluate.extractor == "inception-v3-compat" else "set it to null"
    raise UserError(
        f"params.yaml: evaluate.weights {evaluate.weights} is no file, so the samples could not be scored with "
        f"{evaluate.extractor}; {fix}, or correct the path"
    )
