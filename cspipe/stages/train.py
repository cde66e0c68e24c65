"""Stage train: the main net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from cspipe.config.params import METHODS, Params
from cspipe.config.params_file import load_params
from cspipe.data.grid import display_scale, grid, save_png
from cspipe.data.shards import Shards, open_split
from cspipe.diffusion.denoiser import Timed
from cspipe.diffusion.schedule import Schedule
from cspipe.nets.build import count_parameters
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.files import whole_folder
from cspipe.runtime.models import save_model
from cspipe.runtime.preemption import sigterm_deferred
from cspipe.runtime.provenance import code_ids
from cspipe.runtime.registry import choice
from cspipe.runtime.tracking import tracked
from cspipe.stages.early_checks import check_before_training
from cspipe.stages.examples import open_examples
from cspipe.stages.nets import conditions_of, denoiser, new_main, new_module, write_tsv
from cspipe.stages.stage import MAIN, PREPARED, stage, state_key
from cspipe.stages.states import open_states
from cspipe.training.examples import Examples
from cspipe.training.loop import Plan, run
from cspipe.training.main_net import GRID_IMAGES, MainNet
from cspipe.training.module import ModuleFit
from cspipe.training.objective import Objective

CODE = (
    "cspipe/runtime/device.py",
    "cspipe/data/conditions.py",
    "cspipe/data/masks",
    "cspipe/data/occluders",
    "cspipe/data/shards.py",
    "cspipe/diffusion/denoiser.py",
    "cspipe/diffusion",
    "cspipe/runtime/models.py",
    "cspipe/nets",
    "cspipe/data/grid.py",
    "cspipe/data/pixels.py",
    "cspipe/data/seeds.py",
    "cspipe/stages/examples.py",
    "cspipe/stages/nets.py",
    "cspipe/stages/train.py",
    "cspipe/training",
)
"""Code that decides the stage's bytes, as in dvc.yaml."""
CURVES, NORMS, SCHEDULE = Path("curves/train"), Path("curves/train-norm.tsv"), Path("curves/schedule.tsv")


def main() -> None:
    """Read params.yaml and data/prepared; write models/main, curves/train and two tables beside it."""
    with stage("train") as log:
        params = load_params()
        device = open_device(params.compute)
        log.device = device.name
        images = open_split(PREPARED, "train")
        examples = open_examples(params, images)
        trainee = new_trainee(params, examples, device)
        settings = params.train
        config = describe(params, images, trainee)
        key = state_key(config, params.compute.model_dump())
        checkpoints = open_states("train", key)
        plan = Plan(settings.images, settings.batch, settings.log_every, settings.checkpoint_every, params.seed)
        with sigterm_deferred() as stopping, tracked(CURVES, params.tracking, f"train-{key}", config) as curves:
            points = run(trainee, examples, plan, device, checkpoints, "train", curves, stopping)
        write(trainee, {**config, "images_seen": int(points[-1]["step"])})
        checkpoints.remove()
        log.images(settings.images)


def new_trainee(params: Params, examples: Examples, device: Device) -> MainNet:
    """The main net of the parameters, trained by train.method. Raises UserError."""
    check_before_training(params, len(examples))
    net, fit = new_main(params, device), None
    method = choice(METHODS, params.train.method)
    if method.USES_MODULE:
        module = new_module(params, device)
        fit = ModuleFit(module, Timed(module, params.diffusion.steps, device), params.compensation)
    objective = Objective(net, denoiser(net, params.diffusion, device), params.train, method, fit, len(examples))
    return MainNet(objective, params.train, params.seed, examples)


def describe(params: Params, images: Shards, trainee: MainNet) -> dict[str, Any]:
    """What the model file tells of itself."""
    return {
        "model": params.model.model_dump(),
        "diffusion": params.diffusion.model_dump(),
        "channels": params.data.channels,
        "size": params.data.size,
        "task": params.task,
        "condition": conditions_of(params),
        "parameters": count_parameters(trainee.net),
        "seed": params.seed,
        "train": params.train.model_dump(),
        "module": params.compensation.model_dump(include={"net", "channels", "learning_rate", "loss", "states"}),
        "data_sha256": images.sha256,
        "code": code_ids(*CODE),
    }


def write(trainee: MainNet, config: dict[str, Any]) -> None:
    """The model with its samples along the way, the module's size and the schedule."""
    with whole_folder(MAIN) as folder:
        save_model(folder, {"raw": trainee.net, "ema": trainee.ema.net}, config)
        blank = torch.zeros((1, config["channels"], config["size"], config["size"]), dtype=torch.uint8)
        rows = torch.cat(trainee.rows) if trainee.rows else blank
        scale = display_scale(config["size"])
        save_png(grid(np.asarray(rows), GRID_IMAGES, scale), folder / "progress.png")
    write_tsv(NORMS, trainee.norms, ("t", "norm_ratio", "error"))
    write_tsv(SCHEDULE, schedule_rows(trainee.denoise.schedule), ("t", "alpha_bar", "kappa"))


def schedule_rows(schedule: Schedule) -> list[dict[str, float]]:
    """alpha-bar and kappa(t, t-1) for t = 1..T."""
    t = torch.arange(1, schedule.steps + 1, device=schedule.signal.device)
    alpha_bar, kappa = schedule.signal[t] ** 2, schedule.kappa(t, t - 1)
    columns = zip(t.tolist(), alpha_bar.tolist(), kappa.tolist(), strict=True)
    return [{"t": step, "alpha_bar": ab, "kappa": k} for step, ab, k in columns]


if __name__ == "__main__":
    main()
