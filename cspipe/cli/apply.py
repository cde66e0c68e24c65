"""`cspipe inpaint` and `cspipe deocclude`: a trained model under a person's own picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspipe.config.params_file import load_params
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.sampling.variants import Variant

if TYPE_CHECKING:  # what needs torch or numpy is imported by the functions that use it: other commands are quicker
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from cspipe.sampling.batches import Sampler

ROUNDS = 10
"""Of each step, where an unconditional net fills holes and its variant says nothing: as many as RePaint takes.

Seen with the demo's net, the masks `half`, 32 pictures, 50 steps: 13.4 dB in the hole with 1 round, 13.8 with 2, 14.7
with 5, 14.8 with 10, 14.4 with 20. Time is in proportion.
"""

PictureFile = Annotated[Path, typer.Argument(help="picture: PNG, JPEG or WebP, any size")]
MaskFile = Annotated[Path, typer.Option(help="picture of the same size, white (128 and above) where the hole is")]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG file to write")]
VariantName = Annotated[str | None, typer.Option(help="of params.yaml; if not given, the first that suits the model")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="another seed, another result")]
Models = Annotated[Path, typer.Option(help="folder with main/ and compensation/")]


def inpaint(
    image: PictureFile, mask: MaskFile, out: Out, variant: VariantName = None, seed: Seed = 0,
    model: Models = Path("models"),
) -> None:  # fmt: skip
    """Fill the hole of a picture with a trained model; every other pixel stays as it is.

    The model sees the largest square that contains the hole. One of task generate fills holes too, by RePaint.
    """
    from cspipe.sampling import apply

    check_out(out)
    picture, hole = read_pixels(image), read_hole(mask)
    square = apply.square_around(picture, hole)
    if not hole.any():
        write_png(picture, out)
        print(f"{out}: {mask} has no hole (white), so there is nothing to fill; the picture is as it was")
        return
    if hole[square].all():
        print("cspipe: the mask is white all over: the result follows from the model alone", file=sys.stderr)
    name, sampler = open_sampler("inpaint", model, variant)
    announce(image, sampler)
    write_png(apply.inpaint(picture, hole, sampler, seed), out)
    rounds = "" if sampler.rounds is None else f", {sampler.rounds} rounds of RePaint"
    print(f"{out}: {hole.mean():.1%} of the picture filled (variant {name}{rounds}, seed {seed})")


def deocclude(
    image: PictureFile, out: Out, variant: VariantName = None, seed: Seed = 0, model: Models = Path("models")
) -> None:
    """Take away what stands in front of a face with a trained model; the largest square in the middle is replaced."""
    from cspipe.sampling import apply

    check_out(out)
    picture = read_pixels(image)
    name, sampler = open_sampler("deocclude", model, variant)
    announce(image, sampler)
    write_png(apply.deocclude(picture, sampler, seed), out)
    print(f"{out}: what the model makes of {image} (variant {name}, seed {seed})")


def announce(image: Path, sampler: Sampler) -> None:
    """Say what begins, as it may take minutes."""
    times = sampler.steps * (sampler.rounds or 1)
    print(f"{image}: {times} evaluations of the net on {sampler.device.name}", flush=True)


def check_out(out: Path) -> None:
    """Raises UserError for a file that is no PNG: other formats would change the known pixels."""
    if out.suffix.lower() != ".png" or out.is_dir():
        raise UserError(f"{out}: not the name of a PNG file, and no other format is written; try -o {out.stem}.png")


def write_png(pixels: NDArray[np.uint8], out: Path) -> None:
    """Write uint8 (C, H, W) to a PNG file, whole or not at all. Raises UserError."""
    from cspipe.data.grid import save_png
    from cspipe.sampling.apply import as_image

    try:
        with whole_file(out) as beside:
            save_png(as_image(pixels), beside)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another place with -o") from None


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """The pixels of a file, uint8 (C, H, W), upright, on white where it is transparent. Raises UserError."""
    from cspipe.sampling.apply import as_pixels

    return as_pixels(_read(path))


def read_hole(path: Path) -> NDArray[np.bool_]:
    """The hole that a mask's file shows, bool (H, W). Raises UserError."""
    from cspipe.ingest.user_masks import WHITE
    from cspipe.sampling.apply import as_pixels

    hole: NDArray[np.bool_] = as_pixels(_read(path).convert("L"))[0] >= WHITE
    return hole


def _read(path: Path) -> Image.Image:
    from cspipe.ingest.images import BadImage, read

    try:
        return read(path.read_bytes())
    except BadImage as error:
        raise UserError(f"{path}: {error}; save it as an ordinary PNG, JPEG or WebP file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct its name or its rights") from None


def open_sampler(task: str, models: Path, name: str | None) -> tuple[str, Sampler]:
    """The variant of a name, or the first of params.yaml that suits, on the nets in `models`. Raises UserError."""
    from cspipe.runtime.device import open_device
    from cspipe.runtime.models import read_config
    from cspipe.stages.nets import finished_denoiser
    from cspipe.stages.sample import new_sampler
    from cspipe.stages.stage import COMPENSATION, MAIN

    params = load_params()
    main, compensation = models / MAIN.name, models / COMPENSATION.name
    config = read_config(main, "train")
    _check_task(task, config.get("task"), main)
    name = _choose(params.variants, name, config, main)
    variant = params.variants[name]
    device = open_device(params.compute.model_copy(update={"compile": False}))  # takes longer than one picture
    denoise, config = finished_denoiser(device, main)
    if variant.correction is not None and variant.correction.needs_module:
        _check_module(main, compensation)
    sampler = new_sampler(variant, denoise, config, device, compensation)
    if config["task"] == "generate" and sampler.rounds is None:
        sampler = replace(sampler, rounds=ROUNDS, fills=True)
    return name, sampler


def _check_module(main: Path, compensation: Path) -> None:
    """Raises UserError if the module was fit against another net."""
    from cspipe.runtime.models import FILE, read_config

    if read_config(compensation, "compensate")["main_sha256"] != sha256_file(main / FILE):
        raise UserError(
            f"{compensation}: fit against another net than that of {main}; run `dvc repro compensate`, or name a "
            "--variant without a correction"
        )


def _check_task(task: str, of_model: str | None, main: Path) -> None:
    """Raises UserError if a net of task `of_model` cannot do `task`; any unconditional one can inpaint."""
    if of_model is None:
        raise UserError(f"{main}: made by an older version, which knew no tasks; run `dvc repro train`")
    if of_model == task or (task == "inpaint" and of_model == "generate"):
        return
    fitting = f"`cspipe {of_model}` applies it" if of_model != "generate" else "it knows no occluders"
    raise UserError(
        f"{main}: a net of task {of_model}, not {task} ({fitting}); set task: {task} in params.yaml and run "
        "`dvc repro`, or name another folder with --model"
    )


def _choose(variants: dict[str, Variant], name: str | None, config: dict[str, Any], main: Path) -> str:
    """The named variant, else the first that suits the net, one with repaint before others. Raises UserError."""
    if name is not None and name not in variants:
        raise UserError(f"--variant {name}: params.yaml has none of that name; it has {', '.join(variants)}")
    names = sorted(variants, key=lambda each: variants[each].repaint is None) if name is None else [name]
    objections = {each: _objection(variants[each], config) for each in names}
    suits = [each for each, objection in objections.items() if objection is None]
    if not suits:
        reasons = "; ".join(f"{each}: {objection}" for each, objection in objections.items())
        raise UserError(f"params.yaml: no variant for the net of {main} ({reasons}); change one, or name another")
    return suits[0]


def _objection(variant: Variant, config: dict[str, Any]) -> str | None:
    """Why a variant does not suit a net, if it does not."""
    native = config["diffusion"]["steps"]
    if variant.steps > native:
        return f"takes {variant.steps} steps, the net knows {native}"
    if variant.repaint is not None and config["task"] != "generate":
        return f"has repaint, which is for a net of task generate, and this one's is {config['task']}"
    return None
