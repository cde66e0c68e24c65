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

from cspipe.compute import Device, open_device
from cspipe.denoiser import NetDenoiser
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.samplers import find_step
from cspipe.errors import UserError
from cspipe.files import sha256_file, whole_folder
from cspipe.models import FILE, read_config
from cspipe.params import Params, Variant
from cspipe.params_file import load_params
from cspipe.pictures import display_scale, grid, save_png
from cspipe.provenance import code_ids
from cspipe.sampling import Sampler, sample_all
from cspipe.stages.nets import finished_denoiser, finished_module
from cspipe.stages.stage import COMPENSATION, MAIN, STATES, stage, state_key

CODE = (
    "cspipe/compute.py",
    "cspipe/denoiser.py",
    "cspipe/diffusion",
    "cspipe/models.py",
    "cspipe/nets",
    "cspipe/pictures.py",
    "cspipe/pixels.py",
    "cspipe/sampling.py",
    "cspipe/seeds.py",
    "cspipe/stages/nets.py",
    "cspipe/stages/sample.py",
)
"""Code that decides the stage's bytes, as in dvc.yaml."""
SAMPLES = Path("samples")
GRID_IMAGES, GRID_COLUMNS = 64, 8


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
        facts = describe(name, params, config)
        settings = params.sample
        parts = STATES / "sample" / state_key(facts, settings.batch, params.compute.model_dump())
        batches = sample_all(sampler, settings.seed, settings.images, settings.batch, parts, f"sample {name}")
        with whole_folder(SAMPLES / name) as folder:
            file = folder / "samples.npy"
            write_npy(file, (settings.images, *sampler.shape), batches)
            images = np.load(file, mmap_mode="r")
            save_png(grid(images[:GRID_IMAGES], GRID_COLUMNS, display_scale(images.shape[-1])), folder / "grid.png")
            (folder / "samples.json").write_text(json.dumps(facts, indent=2) + "\n")
        shutil.rmtree(parts)
        log.images(settings.images)


def write_npy(path: Path, shape: tuple[int, ...], batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write batches (n, C, H, W) as one .npy array of `shape` (N, C, H, W), in the memory of one batch.

    Not by a memory map: on a full disk that ends the process without a word.
    """
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(batch.tobytes())


def new_sampler(variant: Variant, denoise: NetDenoiser, config: dict[str, Any], device: Device) -> Sampler:
    """The sampler that a variant describes."""
    schedule, settings = denoise.schedule, variant.correction
    estimate: Denoiser = denoise
    after_step = None
    if settings is not None:
        module = finished_module(device, schedule.steps) if settings.needs_module else None
        estimate, after_step = settings.build(denoise, schedule, module)
    shape, step = (config["channels"], config["size"], config["size"]), find_step(variant.sampler)
    return Sampler(estimate, schedule, shape, step, variant.steps, variant.eta, after_step, device)


def describe(name: str, params: Params, config: dict[str, Any]) -> dict[str, Any]:
    """How the samples of a variant are made."""
    variant = params.variants[name]
    code = {"train": config["code"], "sample": code_ids(*CODE)}
    needs_module = variant.correction is not None and variant.correction.needs_module
    if needs_module:
        code["compensate"] = read_config(COMPENSATION, "compensate")["code"]
    return {
        "variant": name,
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
