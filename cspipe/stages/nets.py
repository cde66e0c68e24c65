"""What the stages with nets share: building them from parameters and reading them back from models/."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cspipe.compensation import CompensationSettings
from cspipe.config.params import Params
from cspipe.data.conditions import condition_channels
from cspipe.data.seeds import derive_seed
from cspipe.data.user_masks import FILE as MASKS
from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.nets.backbone import Backbone, BackboneSettings
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.models import load_weights, read_config
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED


def new_main(params: Params, device: Device) -> nn.Module:
    """A main net with weights drawn from the run's seed."""
    torch.manual_seed(derive_seed(params.seed, "main net"))
    return _build_main(params.model, params.diffusion, *_shape(params), device)


def new_compensator(params: Params, device: Device) -> nn.Module:
    """A net C with weights drawn from the run's seed; its output is zero."""
    torch.manual_seed(derive_seed(params.seed, "module"))
    return _build_compensator(params.compensation, *_shape(params), device)


def _shape(params: Params) -> tuple[str, int, int]:
    """Task, channels and size of the images."""
    return params.task, params.data.channels, params.data.size


def _build_main(
    model: BackboneSettings, diffusion: DiffusionSettings, task: str, channels: int, size: int, device: Device
) -> nn.Module:
    """The main net: its input is the image, the task's condition and, self-conditioned, its own estimate."""
    self_cond = channels if diffusion.self_condition else 0
    return device.place(model.build(channels + condition_channels(task, channels) + self_cond, channels, size))


def _build_compensator(
    settings: CompensationSettings, task: str, channels: int, size: int, device: Device
) -> nn.Module:
    """C: its input is the estimate and the task's condition."""
    net = device.place(settings.build(channels + condition_channels(task, channels), channels, size))
    if device.compile:
        net.compile(dynamic=False)
    return net


def conditions_of(params: Params) -> dict[str, Any] | None:
    """What a model file tells of its conditions; None for a net without any."""
    if params.task == "generate":
        return None
    return {**params.condition.model_dump(exclude={"mask_folder"}), "masks_sha256": masks_sha256(params)}


def masks_sha256(params: Params) -> str | None:
    """Hash of the user's prepared masks, None without any: the path that they came from means nothing elsewhere."""
    return None if params.condition.mask_folder is None else sha256_file(PREPARED / MASKS)


def new_denoiser(net: nn.Module, diffusion: DiffusionSettings, device: Device, multiple: int = 1) -> NetDenoiser:
    """The main net as (x_t, t) -> x0_hat; compiled if the parameters say so, with a graph for each size of a batch."""
    called = torch.compile(net, dynamic=False) if device.compile else net
    scaled = TimestepScaledNet(
        called,  # type: ignore[arg-type]  # torch.compile of a module is one
        diffusion.steps,
        device,
        self_conditioned=diffusion.self_condition,
        multiple=multiple,
    )
    return NetDenoiser(scaled, diffusion.prediction, diffusion.new_schedule().to(device.device))


def finished_denoiser(device: Device, folder: Path = MAIN) -> tuple[NetDenoiser, dict[str, Any]]:
    """The trained main net (EMA weights, frozen) of a folder with its configuration. Raises UserError."""
    config = read_config(folder, "train")
    diffusion = DiffusionSettings.model_validate(config["diffusion"])
    model = _stored_backbone(config, folder)
    net = _build_main(model, diffusion, config["task"], config["channels"], config["size"], device)
    load_weights(net, folder, "ema")
    net.eval().requires_grad_(False)
    return new_denoiser(net, diffusion, device), config


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


def finished_compensator(device: Device, steps: int, folder: Path = COMPENSATION) -> TimestepScaledNet:
    """C of the compensate stage, frozen, of a folder. Raises UserError."""
    config = read_config(folder, "compensate")
    settings = CompensationSettings.model_validate(config["compensation"])
    net = _build_compensator(settings, config["task"], config["channels"], config["size"], device)
    load_weights(net, folder, "module")
    return TimestepScaledNet(net.eval().requires_grad_(False), steps, device)


def write_tsv(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Rows of numbers with six significant digits, as DVC's plots read them; the heading alone if there are none."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{row[column]:.6g}" for column in columns] for row in rows])
