"""Stage sample: images of one variant (a sampler and what corrects it)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.data.grid import comparison, display_scale, grid, save_png
from cspipe.data.held_out import HeldOut, image_numbers
from cspipe.data.pixels import normalise
from cspipe.data.shards import open_split
from cspipe.diffusion.denoiser import NetDenoiser
from cspipe.runtime.collectives import wait_for_all
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_folder
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.models import FILE, read_config
from cspipe.runtime.progress import Progress
from cspipe.runtime.provenance import stage_code
from cspipe.runtime.ranks import rank
from cspipe.runtime.registry import choice, find
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED, STATES, one_at_a_time, stage, state_key
from cspipe.sampling.batches import Sampler, sample_all, sampled_variances
from cspipe.sampling.correction import Corrected, on_estimates
from cspipe.sampling.exposure import exposure_rows, pixel_variance
from cspipe.sampling.settings import Variant
from cspipe.sampling.state import SAMPLERS, find_step
from cspipe.stages.conditions import open_held_out, task_of
from cspipe.stages.nets import finished_compensator, finished_denoiser, masks_sha256, net_folder, stored_mean, write_tsv

SAMPLES = Path("samples")
GRID_IMAGES, GRID_COLUMNS, GRID_ROWS = 64, 8, 28
"""Number of samples shown and of their columns; for a variant with inputs, number of these beside result and truth."""


def main() -> None:
    """Read params.yaml and the models; write samples/<variant>: images, grid, exposure bias, how they were made."""
    name = (sys.argv[1] if len(sys.argv) > 1 else "").rpartition("@")[2]  # the stage's name, sample@..., does too
    with stage(f"sample@{name}") as log:
        params = load_params()
        if name not in params.variants:
            raise UserError(f"no variant {name!r} in params.yaml; it has {', '.join(params.variants)}")
        start_ranks(log.stage, params.compute.model_copy(update={"nodes": 1}))  # parts are files of one machine
        device = open_device(params.compute)
        log.device = device.name
        main_net = net_folder(params.variants[name].snapshot)
        denoise, config = finished_denoiser(device, main_net)
        sampler = new_sampler(params.variants[name], denoise, config, device, main=main_net)
        inputs = open_held_out(params, name)
        facts = describe(name, params, config, inputs)
        settings, count = params.sample, facts["images"]
        parts = STATES / "sample" / state_key(facts, settings.batch, params.compute.decisive(), device.name)
        batches = sample_all(sampler, inputs, settings.seed, count, settings.batch, parts, f"sample {name}")
        if rank():
            wait_for_all()
            list(batches)
            return
        with one_at_a_time(parts):
            wait_for_all()
            with whole_folder(SAMPLES / name) as folder:
                write_npy(folder / "samples.npy", (count, *sampler.shape), batches)
                if sampler.rounds is None:  # RePaint's states go back up, so they do not measure one walk down
                    variances = sampled_variances(parts, count)
                    write_exposure(folder, sampler, variances, settings.batch, f"exposure {name}")
                made = {**facts, "device": device.name, "file_sha256": sha256_file(folder / "samples.npy")}
                if inputs is not None:
                    write_inputs(folder, inputs, settings.batch)
                    made["inputs_file_sha256"] = sha256_file(folder / "inputs.npy")
                save_png(draw_grid(folder, inputs), folder / "grid.png")
                (folder / "samples.json").write_text(json.dumps(made, indent=2) + "\n")
            log.inputs.check()
            shutil.rmtree(parts)
        log.images(count)


def write_inputs(folder: Path, inputs: HeldOut, batch: int) -> None:
    """Write the conditions that the samples were made for, as inputs.npy (N, K, H, W)."""
    spans = [(start, min(start + batch, inputs.count)) for start in range(0, inputs.count, batch)]
    write_npy(folder / "inputs.npy", (inputs.count, *inputs(0, 1).shape[1:]), (inputs(*span) for span in spans))


def write_exposure(folder: Path, sampler: Sampler, sampled: NDArray[np.float64], batch: int, name: str) -> None:
    """Write the variance of x_t along the walk and in the forward process as exposure.tsv; `name` labels progress."""
    images, total = open_split(PREPARED, "train"), 0.0
    with Progress(name, len(images)) as progress:
        for start in range(0, len(images), batch):
            pixels = images.gather(np.arange(start, min(start + batch, len(images))))
            total += float(pixel_variance(normalise(torch.from_numpy(pixels)).double()))
            progress.advance(len(pixels))
    rows = exposure_rows(sampler.path, sampled, total / len(images), sampler.schedule)
    write_tsv(folder / "exposure.tsv", rows, ("t", "sampled", "forward"))


def draw_grid(folder: Path, inputs: HeldOut | None) -> Image.Image:
    """Draw the first samples in a folder; with inputs, each beside its input, the truth, and its error."""
    images = np.load(folder / "samples.npy", mmap_mode="r")
    if inputs is None:
        return grid(images[:GRID_IMAGES], GRID_COLUMNS, display_scale(images.shape[-1]))
    rows = min(GRID_ROWS, len(images))
    truths = inputs.images.gather(image_numbers(0, rows, len(inputs.conditions.families)))
    return comparison(inputs(0, rows)[:, : images.shape[1]], images[:rows], truths)


def write_npy(path: Path, shape: tuple[int, ...], batches: Iterable[NDArray[np.uint8]]) -> None:
    """Write batches (n, C, H, W) as one .npy array of `shape` (N, C, H, W), in the memory of one batch.

    It uses no memory map, which on a full disk ends the process without a message.
    """
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for batch in batches:
            file.write(batch.tobytes())


def new_sampler(
    variant: Variant, denoise: NetDenoiser, config: dict[str, Any], device: Device, compensation: Path = COMPENSATION,
    main: Path = MAIN,
) -> Sampler:  # fmt: skip
    """Build the sampler of a variant; C and the mean image, if needed, are read from `compensation` and `main`."""
    schedule, settings = denoise.schedule, variant.correction
    needs_C = settings is not None and settings.needs_compensator
    C = finished_compensator(device, schedule.steps, compensation, config) if needs_C else None
    shape = (config["channels"], config["size"], config["size"])
    mean = stored_mean(device, main, shape) if variant.terminal == "mean" else None
    step = find_step(variant.sampler)
    corrects_estimates = find(SAMPLERS, variant.sampler, "CORRECTS_ESTIMATES")

    def net(condition: Tensor | None) -> Corrected:
        """Return the net and the correction of its steps, for a condition."""
        conditioned = denoise.with_condition(condition).along_trajectory(mean)
        if settings is None:
            return conditioned, None
        corrected = settings.build(conditioned, schedule, C and C.with_condition(condition))
        return on_estimates(*corrected) if corrects_estimates else corrected

    rounds = None if variant.repaint is None else variant.repaint.rounds
    fills = config["task"] == "inpaint" or rounds is not None
    path = variant.path(schedule.steps)
    sampler = Sampler(net, schedule, shape, step, path, variant.eta, device, fills, rounds, mean)
    if not variant.fits:
        return sampler
    if config["task"] != "generate":
        raise UserError(f"sampler {variant.sampler} is for nets of task generate, and this one's is {config['task']}")
    return cast(Sampler, choice(SAMPLERS, variant.sampler).fit(sampler))


def describe(name: str, params: Params, config: dict[str, Any], inputs: HeldOut | None) -> dict[str, Any]:
    """Facts of how the samples of a variant are made, for samples.json."""
    variant = params.variants[name]
    code = {"train": config["code"], "sample": stage_code("sample", params.model_dump(), name)}
    needs_compensator = variant.correction is not None and variant.correction.needs_compensator
    if needs_compensator:
        code["compensate"] = read_config(COMPENSATION, "compensate").get("code", {})
    return {
        "variant": name,
        "task": task_of(params, name),
        "families": None if inputs is None else list(inputs.conditions.families),
        "inputs_sha256": None if inputs is None else inputs.images.sha256,
        "masks_sha256": masks_sha256(params),
        **variant.model_dump(),
        "seed": params.sample.seed,
        "images": params.sample.images if inputs is None else inputs.count,
        "images_seen": config["images_seen"],
        "training": config["train"]["method"],
        "training_seed": config["seed"],
        "model_sha256": sha256_file(net_folder(variant.snapshot) / FILE),
        "module_sha256": sha256_file(COMPENSATION / FILE) if needs_compensator else None,
        "code": code,
    }


if __name__ == "__main__":
    main()
