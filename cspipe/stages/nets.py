"""What the stages with nets share: building them from parameters and reading them back from models/."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from cspipe.compute import Device
from cspipe.denoiser import NetDenoiser, Timed
from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.files import whole_file
from cspipe.models import load_weights, read_config
from cspipe.nets import build_compensation, build_main
from cspipe.params import Compensation, Diffusion, Model, Params
from cspipe.seeds import derive_seed
from cspipe.stages.stage import COMPENSATION, MAIN


def schedule_on(diffusion: Diffusion, device: Device) -> Schedule:
    """The schedule of the parameters, on the device."""
    return SCHEDULES[diffusion.schedule](diffusion.steps).to(device.device)


def new_main(params: Params, device: Device) -> nn.Module:
    """A main net with weights drawn from the run's seed."""
    torch.manual_seed(derive_seed(params.seed, "main net"))
    return build_main(params.model, image_channels=params.data.channels, size=params.data.size).to(device.device)


def new_module(params: Params, device: Device) -> nn.Module:
    """A compensation module with weights drawn from the run's seed; its output is zero."""
    torch.manual_seed(derive_seed(params.seed, "module"))
    channels, size = params.data.channels, params.data.size
    return build_compensation(params.compensation, image_channels=channels, size=size).to(device.device)


def denoiser(net: nn.Module, diffusion: Diffusion, device: Device) -> NetDenoiser:
    """The main net as (x_t, t) -> x0h; compiled if the parameters say so."""
    called = torch.compile(net) if device.compile else net
    timed = Timed(called, diffusion.steps, device)  # type: ignore[arg-type]  # torch.compile of a module is one
    return NetDenoiser(timed, diffusion.prediction, schedule_on(diffusion, device))


def finished_denoiser(device: Device) -> tuple[NetDenoiser, dict[str, object]]:
    """The trained main net (EMA weights, frozen) with its configuration, from models/main."""
    config = read_config(MAIN, "train")
    channels, size = config["channels"], config["size"]
    net = build_main(Model.model_validate(config["model"]), image_channels=channels, size=size)
    load_weights(net, MAIN, "ema")
    net.to(device.device).eval().requires_grad_(False)
    return denoiser(net, Diffusion.model_validate(config["diffusion"]), device), config


def finished_module(device: Device, steps: int) -> Timed:
    """The module of the compensate stage, frozen, from models/compensation."""
    config = read_config(COMPENSATION, "compensate")
    settings = Compensation.model_validate(config["compensation"])
    module = build_compensation(settings, image_channels=config["channels"], size=config["size"])
    load_weights(module, COMPENSATION, "module")
    return Timed(module.to(device.device).eval().requires_grad_(False), steps, device)


def write_tsv(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Rows of numbers with six significant digits, as DVC's plots read them; the heading alone if there are none."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{row[column]:.6g}" for column in columns] for row in rows])
