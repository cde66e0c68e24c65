"""Stage sample: pictures of one variant (a sampler and what corrects it)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from cspipe.compute import Device, open_device
from cspipe.data.held_out import HeldOut, picture_numbers
from cspipe.denoiser import NetDenoiser
from cspipe.diffusion.samplers import find_step
from cspipe.errors import UserError
from cspipe.files import sha256_file, whole_folder
from cspipe.models import FILE, read_config
from cspipe.params import Params, Sample, task_of
from cspipe.params_file import load_params
from cspipe.pictures import comparison, display_scale, grid, save_png
from cspipe.provenance import code_ids
from cspipe.sampling import Corrected, Sampler, sample_all
from cspipe.stages.inputs import open_inputs
from cspipe.stages.nets import finished_denoiser, finished_module
from cspipe.stages.stage import COMPENSATION, MAIN, STATES, stage, state_key
from cspipe.variants import Variant

CODE = (
    "cspipe/compute.py",
    "cspipe/data/conditions.py",
    "cspipe/data/held_out.py",
    "cspipe/data/images.py",
    "cspipe/data/listing.py",
    "cspipe/data/masks",
    "cspipe/data/occluders",
    "cspipe/data/shards.py",
    "cspipe/denoiser.py",
    "cspipe/diffusion",
    "cspipe/models.py",
    "cspipe/nets",
    "cspipe/pictures.py",
    "cspipe/pixels.py",
    "cspipe/sampling.py",
    "cspipe/seeds.py",
    "cspipe/stages/inputs.py",
    "cspipe/stages/nets.py",
    "cspipe/stages/sample.py",
)
"""Code that decides the stage's bytes, as in dvc.yaml."""
SAMPLES = Path("samples")
GRID_IMAGES, GRID_COLUMNS, GRID_ROWS = 64, 8, 28
"""Samples shown and columns they stand in; with a task, inputs shown beside result and truth."""


def main() -> None:
    """Read params.yaml and the models; write samples/<variant>: the images, a grid and how they were made."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    with stage(f"sample@{name}") as log:
        params = load_params()
        if name not in params.variants:
            raise UserError(f"no variant {name!r} in params.yaml; it has {', '.join(params.variants)}")
        device = open_device(params.compute)
        log.device = device.name
        denoise, config = finished_denoiser(device)
        sampler = new_sampler(params.variants[name], denoise, config, device)
        inputs = open_inputs(params, params.variants[name])
        facts = describe(name, params, config, inputs)
        settings = params.sample
        parts = STATES / "sample" / state_key(facts, settings.batch, params.compute.model_dump())
        batches = sample_all(sampler, inputs, settings.seed, settings.images, settings.batch, parts, f"sample {name}")
        with whole_folder(SAMPLES / name) as folder:
            write(folder, batches, settings, sampler.shape, inputs)
            (folder / "samples.json").write_text(json.dumps(facts, indent=2) + "\n")
        shutil.rmtree(parts)
        log.images(settings.images)


def write(
    folder: Path, batches: Iterable[NDArray[np.uint8]], settings: Sample, shape: tuple[int, int, int],
    inputs: HeldOut | None,
) -> None:  # fmt: skip
    """The samples and a grid of the first; with a task, its inputs, and each beside its result and the truth."""
    file, count = folder / "samples.npy", settings.images
    write_npy(file, (count, *shape), batches)
    images = np.load(file, mmap_mode="r")
    if inputs is None:
        shown = grid(images[:GRID_IMAGES], GRID_COLUMNS, display_scale(shape[-1]))
    else:
        spans = [(start, min(start + settings.batch, count)) for start in range(0, count, settings.batch)]
        channels = inputs(0, 1).shape[1]
        write_npy(folder / "inputs.npy", (count, channels, *shape[1:]), (inputs(*span) for span in spans))
        rows = min(GRID_ROWS, count)
        truths = inputs.pictures.gather(picture_numbers(0, rows, len(inputs.conditions.families)))
        shown = comparison(inputs(0, rows)[:, : shape[0]], images[:rows], truths)
    save_png(shown, folder / "grid.png")


def write_npy(path: Path, shape: tuple[int, ...], batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write batches (n, C, H, W) as one .npy array of `shape` (N, C, H, W), in the memory of one batch.

    Not by a memory map: on a full disk that ends the process without a word.
    """
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(batch.tobytes())


def new_sampler(
    variant: Variant, denoise: NetDenoiser, config: dict[str, Any], device: Device, compensation: Path = COMPENSATION
) -> Sampler:
    """The sampler that a variant describes; the module, if it needs one, is in the folder `compensation`."""
    schedule, settings = denoise.schedule, variant.correction
    needs_module = settings is not None and settings.needs_module
    module = finished_module(device, schedule.steps, compensation) if needs_module else None

    def net(condition: Tensor | None) -> Corrected:
        """The net and what corrects its steps, under a condition."""
        if settings is None:
            return denoise.given(condition), None
        return settings.build(denoise.given(condition), schedule, module and module.given(condition))

    shape, step = (config["channels"], config["size"], config["size"]), find_step(variant.sampler)
    rounds = None if variant.repaint is None else variant.repaint.rounds
    fills = config["task"] == "inpaint" or rounds is not None
    return Sampler(net, schedule, shape, step, variant.steps, variant.eta, device, fills, rounds)


def describe(name: str, params: Params, config: dict[str, Any], inputs: HeldOut | None) -> dict[str, Any]:
    """How the samples of a variant are made."""
    variant = params.variants[name]
    code = {"train": config["code"], "sample": code_ids(*CODE)}
    needs_module = variant.correction is not None and variant.correction.needs_module
    if needs_module:
        code["compensate"] = read_config(COMPENSATION, "compensate")["code"]
    return {
        "variant": name,
        "task": task_of(params, variant),
        "families": None if inputs is None else list(inputs.conditions.families),
        "inputs_sha256": None if inputs is None else inputs.pictures.sha256,
        **variant.model_dump(),
        "seed": params.sample.seed,
        "images": params.sample.images,
        "images_seen": config["images_seen"],
        "training": config["train"]["method"],
        "training_seed": config["seed"],
        "model_sha256": sha256_file(MAIN / FILE),
        "module_sha256": sha256_file(COMPENSATION / FILE) if needs_module else None,
        "code": code,
    }


if __name__ == "__main__":
    main()
