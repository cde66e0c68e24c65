"""`cspipe inpaint` and `cspipe deocclude`: apply a trained model to an image of your own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

if TYPE_CHECKING:  # functions import modules that need torch or numpy, so that other commands start faster
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cspipe.sampling.batches import Sampler
    from cspipe.sampling.settings import Variant

ROUNDS = 10
"""Rounds of each step where an unconditional net fills holes and its variant has no `repaint`: RePaint's number.

Measured with the demo's net, the masks `half`, 32 images, 50 steps: 13.4 dB in the hole with 1 round, 13.8 with 2, 14.7
with 5, 14.8 with 10, 14.4 with 20. The time is proportional to the rounds.
"""

ImageFile = Annotated[Path, typer.Argument(help="image: PNG, JPEG or WebP, any size")]
MaskFile = Annotated[Path, typer.Option(help="image of the same size, white (128 and above) where the hole is")]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG file to write")]
VariantName = Annotated[str | None, typer.Option(help="name in params.yaml; if not given, the first that suits")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="another seed gives another result")]
Models = Annotated[Path, typer.Option(help="folder with main/ and compensation/")]


def inpaint(
    image: ImageFile, mask: MaskFile, out: Out, variant: VariantName = None, seed: Seed = 0,
    model: Models = Path("models"),
) -> None:  # fmt: skip
    """Fill the hole of an image with a trained model; every other pixel stays as it is.

    The model sees the largest square that contains the hole. A model of task generate fills holes too, by RePaint.
    """
    _apply("inpaint", image, mask, out, variant, seed, model)


def deocclude(
    image: ImageFile, out: Out, variant: VariantName = None, seed: Seed = 0, model: Models = Path("models")
) -> None:
    """Remove what is in front of a face with a trained model; the largest square in the middle is replaced."""
    _apply("deocclude", image, None, out, variant, seed, model)


def _apply(task: str, image: Path, mask: Path | None, out: Path, variant: str | None, seed: int, model: Path) -> None:
    """Check the arguments, sample, write the result; print the start too, as it may take minutes. Raises UserError."""
    from cspipe.cli.own_image import apply, as_pixels, square_around

    check_png(out)
    pixels, hole = as_pixels(read_image(image)), None if mask is None else read_hole(mask)
    square = square_around(pixels, hole)
    if hole is not None and not hole.any():
        write_png(pixels, out)
        print(f"{out}: {mask} has no hole (white), so there is nothing to fill; the image is as it was")
        return
    if hole is not None and hole[square].all():
        print("cspipe: the mask is white everywhere: the whole image is drawn by the model", file=sys.stderr)
    name, sampler = open_sampler(task, model, variant)
    evaluations = sampler.steps * (sampler.rounds or 1)
    print(f"{image}: {evaluations} evaluations of the net on {sampler.device.name}", flush=True)
    write_png(apply(pixels, hole, sampler, seed), out)
    what = f"what the model makes of {image}" if hole is None else f"{hole.mean():.1%} of the image filled"
    rounds = "" if sampler.rounds is None else f", {sampler.rounds} rounds of RePaint"
    print(f"{out}: {what} (variant {name}{rounds}, seed {seed})")


def check_png(out: Path) -> None:
    """Check that `out` names a PNG file: other formats would change pixels. Raises UserError if not."""
    if out.suffix.lower() != ".png" or out.is_dir():
        raise UserError(f"{out}: not the name of a PNG file, and no other format is written; try -o {out.stem}.png")


def write_png(pixels: NDArray[np.uint8], out: Path) -> None:
    """Write pixels, uint8 (C, H, W), to a PNG file, whole or not at all. Raises UserError."""
    from cspipe.cli.own_image import as_image
    from cspipe.data.grid import save_png

    with as_user_error(out), whole_file(out) as beside:
        save_png(as_image(pixels), beside)


@contextmanager
def as_user_error(out: Path) -> Iterator[None]:
    """Turn an OSError while `out` is written into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another place with -o") from None


def read_hole(path: Path) -> NDArray[np.bool_]:
    """Read the hole from a mask file, bool (H, W): True where the mask is at least WHITE. Raises UserError."""
    from cspipe.cli.own_image import as_pixels
    from cspipe.ingest.user_masks import WHITE

    hole: NDArray[np.bool_] = as_pixels(read_image(path).convert("L"))[0] >= WHITE
    return hole


def read_image(path: Path) -> Image.Image:
    """Read an image file as mode L or RGB, upright, with white behind transparent pixels. Raises UserError."""
    from cspipe.ingest.files import read_file
    from cspipe.ingest.images import BadImage, read

    try:
        return read(read_file(path))
    except BadImage as error:
        raise UserError(f"{path}: {error}; save it as an ordinary PNG, JPEG or WebP file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct its name or its rights") from None


def open_sampler(task: str, models: Path, name: str | None) -> tuple[str, Sampler]:
    """Return the name and the sampler of a variant on the nets in `models`. Raises UserError.

    The variant is the one called `name`, or the first of params.yaml that suits the net. The net has to be one of the
    task; for inpainting, an unconditional net will do too.
    """
    from cspipe.config.params_file import load_params
    from cspipe.exchange.draw import open_variant
    from cspipe.runtime.device import open_device
    from cspipe.runtime.stage import COMPENSATION, MAIN
    from cspipe.stages.nets import finished_denoiser, net_folder

    params = load_params()
    main, compensation = models / MAIN.name, models / COMPENSATION.name
    device = open_device(params.compute.model_copy(update={"compile": False}))  # compiling takes longer than one image
    denoise, config = finished_denoiser(device, main)
    trained = config["task"]
    if trained != task and (task, trained) != ("inpaint", "generate"):
        raise UserError(
            f"{main}: a net of task {trained}, not {task}; set task: {task} in params.yaml and run `dvc repro`, or "
            "name another folder with --model"
        )
    name = _choose(params.variants, name, config, main)
    variant = params.variants[name]
    net = net_folder(variant.snapshot, main)
    if net != main:
        denoise, config = finished_denoiser(device, net)
    sampler = open_variant(variant, denoise, config, device, net, compensation)
    if trained == "generate" and sampler.rounds is None:
        sampler = replace(sampler, rounds=ROUNDS, fills=True)
    return name, sampler


def _choose(variants: dict[str, Variant], name: str | None, config: dict[str, Any], main: Path) -> str:
    """Return `name`, or the first variant that suits the net, those with repaint first. Raises UserError if none."""
    if name is not None and name not in variants:
        raise UserError(f"--variant {name}: params.yaml has none of that name; it has {', '.join(variants)}")
    from cspipe.runtime.registry import find
    from cspipe.sampling.state import SAMPLERS

    native, objections = config["diffusion"]["steps"], []
    for each in [name] if name else sorted(variants, key=lambda other: variants[other].repaint is None):
        try:
            variants[each].path(native)
        except ValueError as error:
            objections.append(f"{each}: {error}, which the net knows")
            continue
        if variants[each].repaint is not None and config["task"] != "generate":
            objections.append(f"{each}: has repaint, which is for a net of task generate, not {config['task']}")
        elif config["task"] == "generate" and find(SAMPLERS, variants[each].sampler, "REMEMBERS"):
            objections.append(f"{each}: its sampler {variants[each].sampler} remembers steps, so it cannot repaint")
        else:
            return each
    reasons = "; ".join(objections)
    raise UserError(f"params.yaml: no variant for the net of {main} ({reasons}); change one, or name another")
