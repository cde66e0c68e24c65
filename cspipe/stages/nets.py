"""What the stages with nets share: building them from parameters and reading them back from models/."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cspipe.backbones import BackboneSettings
from cspipe.config.params import Backbone, Compensation, Diffusion, Params
from cspipe.data.conditions import condition_channels
from cspipe.data.seeds import derive_seed
from cspipe.data.user_masks import FILE as MASKS
from cspipe.diffusion.denoiser import NetDenoiser, Timed
from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.nets.build import build_compensation, build_main
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.models import load_weights, read_config
from cspipe.stages.stage import COMPENSATION, MAIN, PREPARED


def schedule_on(diffusion: Diffusion, device: Device) -> Schedule:
    """The schedule of the parameters, on the device."""
    return SCHEDULES[diffusion.schedule](diffusion.steps).to(device.device)


def new_main(params: Params, device: Device) -> nn.Module:
    """A main net with weights drawn from the run's seed."""
    torch.manual_seed(derive_seed(params.seed, "main net"))
    return build_main(params.model, **_told_too(_channels(params), params.diffusion)).to(device.device)


def new_module(params: Params, device: Device) -> nn.Module:
    """A compensation module with weights drawn from the run's seed; its output is zero."""
    torch.manual_seed(derive_seed(params.seed, "module"))
    return build_compensation(params.compensation, **_channels(params)).to(device.device)


def _channels(params: Params) -> dict[str, int]:
    """What the pictures and the task decide of both nets."""
    return shape_of({"channels": params.data.channels, "size": params.data.size, "task": params.task})


def shape_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The arguments of `build_main` and `build_compensation` that follow from pictures and task, in a model's words."""
    channels = config["channels"]
    told = condition_channels(config["task"], channels)
    return {"image_channels": channels, "condition_channels": told, "size": config["size"]}


def _told_too(shape: dict[str, int], diffusion: Diffusion) -> dict[str, int]:
    """The shape of a main net that may be told its own estimate as well."""
    told = shape["image_channels"] if diffusion.self_condition else 0
    return {**shape, "condition_channels": shape["condition_channels"] + told}


def conditions_of(params: Params) -> dict[str, Any] | None:
    """What a model file tells of its conditions; None for a net without any."""
    if params.task == "generate":
        return None
    return {**params.condition.model_dump(exclude={"mask_folder"}), "masks_sha256": masks_sha256(params)}


def masks_sha256(params: Params) -> str | None:
    """Hash of the prepared own masks, None without any: the path that they came from means nothing elsewhere."""
    return None if params.condition.mask_folder is None else sha256_file(PREPARED / MASKS)


def denoiser(net: nn.Module, diffusion: Diffusion, device: Device) -> NetDenoiser:
    """The main net as (x_t, t) -> x0h; compiled if the parameters say so."""
    called = torch.compile(net) if device.compile else net
    timed = Timed(called, diffusion.steps, device, recalls=diffusion.self_condition)  # type: ignore[arg-type]  # torch.compile of a module is one
    return NetDenoiser(timed, diffusion.prediction, schedule_on(diffusion, device))


def finished_denoiser(device: Device, folder: Path = MAIN) -> tuple[NetDenoiser, dict[str, Any]]:
    """The trained main net (EMA weights, frozen) of a folder with its configuration. Raises UserError."""
    config = read_config(folder, "train")
    diffusion = Diffusion.model_validate(config["diffusion"])
    net = build_main(_stored_backbone(config, folder), **_told_too(shape_of(config), diffusion))
    load_weights(net, folder, "ema")
    net.to(device.device).eval().requires_grad_(False)
    return denoiser(net, diffusion, device), config


def _stored_backbone(config: Mapping[str, Any], folder: Path) -> BackboneSettings:
    """The keys of a model file's main net. Raises UserError where they are those of another version of the project."""
    try:
        return TypeAdapter[BackboneSettings](Backbone).validate_python(config["model"])
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["model", *map(str, problem["loc"])])
        raise UserError(
            f"{folder}: the main net was trained by another version of this project ({key}: {problem['msg']}); "
            "run `dvc repro train`, or use that version"
        ) from None


def finished_module(device: Device, steps: int, folder: Path = COMPENSATION) -> Timed:
    """The module of the compensate stage, frozen, of a folder. Raises UserError."""
    config = read_config(folder, "compensate")
    module = build_compensation(Compensation.model_validate(config["compensation"]), **shape_of(config))
    load_weights(module, folder, "module")
    return Timed(module.to(device.device).eval().requires_grad_(False), steps, device)


def write_tsv(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Rows of numbers with six significant digits, as DVC's plots read them; the heading alone if there are none."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{row[column]:.6g}" for column in columns] for row in rows])
