"""Stage train: training of the main net."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cspipe.config.checks import check_before_training, check_held_out
from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.data.conditions import open_conditions
from cspipe.data.grid import display_scale, grid, save_png
from cspipe.data.shards import Shards, open_split
from cspipe.diffusion.denoiser import TimestepScaledNet
from cspipe.diffusion.schedule import Schedule
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.collectives import parallel
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.differences import differences
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_folder
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.models import FILE, save_model
from cspipe.runtime.preemption import sigterm_deferred
from cspipe.runtime.provenance import stage_code
from cspipe.runtime.ranks import rank, world
from cspipe.runtime.registry import choice
from cspipe.runtime.stage import MAIN, PREPARED, stage, state_key
from cspipe.runtime.states import open_states
from cspipe.runtime.tracking import tracked
from cspipe.stages.conditions import open_held_out
from cspipe.stages.nets import (
    conditions_of,
    finished_denoiser,
    net_folder,
    new_compensator,
    new_denoiser,
    new_main,
    write_tsv,
)
from cspipe.training.compensator_trainer import CompensatorFit
from cspipe.training.diffusion_trainer import GRID_IMAGES, DiffusionTrainer
from cspipe.training.loop import Plan, run
from cspipe.training.settings import METHODS, StartFrom
from cspipe.training.stream import TrainingSet

CURVES, NORMS, SCHEDULE = Path("curves/train"), Path("curves/train-norm.tsv"), Path("curves/schedule.tsv")


def main() -> None:
    """Read params.yaml and data/prepared; write models/main, curves/train and two tables beside it."""
    with stage("train") as log:
        params = load_params()
        start_ranks(log.stage, params.compute)
        device = open_device(params.compute)
        log.device = device.name
        images = open_split(PREPARED, "train")
        check_held_out(len(open_split(PREPARED, "test")))
        conditions = open_conditions(params.task, params.condition, images, PREPARED)
        data = TrainingSet(images, conditions, params.seed)
        trainer = new_trainer(params, data, device)
        settings = params.train
        config = describe(params, images, trainer)
        key = state_key(config, params.compute.decisive())
        checkpoints = open_states("train", key)
        plan = Plan(settings.images, settings.batch, settings.log_every, settings.checkpoint_every, params.seed)
        with sigterm_deferred() as stopping, tracked(CURVES, params.tracking, f"train-{key}", config) as curves:
            if world() == 1:  # several ranks stop a step later: C would be measured beside other weights
                trainer.stopping = stopping
            points = run(trainer, data, plan, device, checkpoints, "train", curves, stopping)
        if rank():
            return
        write(trainer, {**config, "images_seen": int(points[-1]["step"])})
        log.inputs.check()
        checkpoints.remove()
        log.images(settings.images)


def new_trainer(params: Params, data: TrainingSet, device: Device) -> DiffusionTrainer:
    """Build the main net and its trainer with train.method. Raises UserError if params.yaml cannot be carried out."""
    check_before_training(params, len(data))
    for name in params.variants:
        open_held_out(params, name)  # raises if there are fewer held-out images than it samples
    net, fit = new_main(params, device), None
    if params.train.start_from is not None:
        start_from(params.train.start_from, net, params, device)
    whole, quarter = params.train.micro_batch, -(-params.train.micro_batch // 4)
    method = choice(METHODS, params.train.method)
    if method.USES_COMPENSATOR:
        C = new_compensator(params, device)
        scaled = TimestepScaledNet(parallel(C), params.diffusion.steps, device, multiple=whole)
        fit = CompensatorFit(C, scaled, params.compensation)
    denoise = new_denoiser(net, params.diffusion, device, multiple=quarter)
    return DiffusionTrainer(net, denoise, params.train, method, fit, data, params.seed)


def start_from(start: StartFrom, net: nn.Module, params: Params, device: Device) -> None:
    """Load the weights that train.start_from names. Raises UserError if hash, task, images or net settings differ."""
    file = start.folder / FILE
    found = sha256_file(file) if file.is_file() else "not there"
    if found != start.sha256:
        wrong = f"params.yaml: train.start_from.sha256 {start.sha256}, but {file} is {found}"
        raise UserError(f"{wrong}; put that model there, or set the sha256 of this one")
    denoise, config = finished_denoiser(replace(device, compile=False), start.folder)
    if sha256_file(file) != found:
        raise UserError(f"params.yaml: train.start_from {file} was replaced while it was read; run the stage again")
    ours = params.model_dump(include={"task": True, "data": {"channels", "size"}, "model": True, "diffusion": True})
    theirs = {key: config[key] for key in ("task", "model", "diffusion")}
    theirs["data"] = {key: config[key] for key in ours["data"]}
    for key, value, other in differences(ours, theirs):
        fix = "set it to that to train that model further"
        raise UserError(f"params.yaml: {key} {value!s:.300}, but train.start_from {file} has {other!s:.300}; {fix}")
    net.load_state_dict(denoise.net.net.state_dict())


def describe(params: Params, images: Shards, trainer: DiffusionTrainer) -> dict[str, Any]:
    """Configuration that the model file contains."""
    start = params.train.start_from
    return {
        "model": params.model.model_dump(),
        "diffusion": params.diffusion.model_dump(),
        "channels": params.data.channels,
        "size": params.data.size,
        "task": params.task,
        "condition": conditions_of(params),
        "parameters": count_parameters(trainer.net),
        "seed": params.seed,
        "train": params.train.model_dump(exclude={"start_from"}),
        "start_sha256": start and start.sha256,
        "module": params.compensation.model_dump(include={"net", "channels", "learning_rate", "loss", "states"}),
        "data_sha256": images.sha256,
        "code": stage_code("train", params.model_dump()),
    }


def write(trainer: DiffusionTrainer, config: dict[str, Any]) -> None:
    """Write the model with its snapshots and a grid of samples along the way, the norms of C, and the schedule."""
    with whole_folder(MAIN) as folder:
        data = nn.Module()
        data.register_buffer("mean", trainer.mean_image())
        save_model(folder, {"raw": trainer.net, "ema": trainer.ema.net, "data": data}, config)
        rows = np.asarray(torch.cat(trainer.rows))
        save_png(grid(rows, GRID_IMAGES, display_scale(config["size"])), folder / "progress.png")
        for images, weights in trainer.snapshots.items():
            place, batch = net_folder(images, folder), trainer.settings.batch
            place.mkdir(parents=True)
            trainer.ema.net.load_state_dict(weights)
            seen = math.ceil(min(images, trainer.settings.images) / batch) * batch
            save_model(place, {"ema": trainer.ema.net, "data": data}, {**config, "images_seen": seen})
    assert trainer.norms is not None, "the training was not stopped"
    write_tsv(NORMS, trainer.norms, ("t", "norm_ratio", "error"))
    write_tsv(SCHEDULE, schedule_rows(trainer.denoise.schedule), ("t", "alpha_bar", "kappa"))


def schedule_rows(schedule: Schedule) -> list[dict[str, float]]:
    """Rows of alpha-bar and kappa(t, t-1) for t = 1..T."""
    t = torch.arange(1, schedule.steps + 1, device=schedule.sqrt_alpha_bar.device)
    alpha_bar, kappa = schedule.sqrt_alpha_bar[t] ** 2, schedule.kappa(t, t - 1)
    columns = zip(t.tolist(), alpha_bar.tolist(), kappa.tolist(), strict=True)
    return [{"t": step, "alpha_bar": ab, "kappa": k} for step, ab, k in columns]


if __name__ == "__main__":
    main()
