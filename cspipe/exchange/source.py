"""Open a model of this package for export: its net, its settings and, if compensated, its net C."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from torch import nn

from cspipe.compensation import COMPENSATORS, CompensationSettings
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.exchange.templates import mean
from cspipe.nets.backbone import BACKBONES, Backbone, BackboneSettings
from cspipe.runtime.device import ComputeSettings, Device, free_cores, open_device
from cspipe.runtime.models import read_config
from cspipe.stages.nets import (
    check_fit_against,
    compensator_in_channels,
    finished_compensator,
    finished_denoiser,
    main_in_channels,
    stored_mean,
    usual_terminal,
)


@dataclass(frozen=True)
class Part:
    """A net with the code that makes it: `maker`, a class or function of `module`, called with `arguments`."""

    net: nn.Module
    module: str
    maker: str
    arguments: dict[str, Any]
    """Arguments of `maker`; their `in_channels` are those of the image and of what is joined to it."""


@dataclass(frozen=True)
class Source:
    """An opened model to export: its nets and settings."""

    main: Part
    compensator: Part | None
    mean: Part | None
    """Module that returns the mean training image, with `terminal: mean`."""
    model: BackboneSettings
    diffusion: DiffusionSettings
    channels: int
    size: int
    task: str


def any_device() -> Device:
    """Open the GPU, if there is one, else the cores that are free."""
    threads, one = max(1, int(free_cores())), {"gpus": 1, "nodes": 1, "deterministic": True, "compile": False}
    return open_device(ComputeSettings(device="auto", precision="float32", threads=threads, **one))


def open_source(folder: Path, compensation: Path | None, terminal: Literal["net", "mean"] | None = None) -> Source:
    """Open a model and, in another folder, the C that was fit against it, on the CPU. Raises UserError.

    `terminal` is the estimate at t = T as in a variant; None: as `cspipe sample` draws.
    """
    device = Device(torch.device("cpu"), torch.float32, compile=False)
    denoise, config = finished_denoiser(device, folder)
    model: BackboneSettings = TypeAdapter(Backbone).validate_python(config["model"])
    diffusion = DiffusionSettings.model_validate(config["diffusion"])
    net, task = denoise.net.net, str(config["task"])
    channels, size = int(config["channels"]), int(config["size"])
    seen = main_in_channels(diffusion, task, channels)
    main = Part(net, f"{BACKBONES}.{model.name}", type(net).__name__, model.arguments(seen, channels, size))
    C = None
    if compensation is not None:
        check_fit_against(compensation, folder)
        net = finished_compensator(device, denoise.schedule.steps, compensation).net
        settings = CompensationSettings.model_validate(read_config(compensation, "compensate")["compensation"])
        seen = compensator_in_channels(task, channels)
        arguments = {"in_channels": seen, "out_channels": channels, "size": size}
        C = Part(net, f"{COMPENSATORS}.{settings.net}", "build", {**arguments, "width": settings.channels})
    first = None
    if (terminal or usual_terminal(denoise, folder)) == "mean":
        first = Part(mean.Mean(channels, size), mean.__name__, "Mean", {"in_channels": channels, "size": size})
        first.net.load_state_dict({"image": stored_mean(device, folder, (channels, size, size))})
    return Source(main, C, first, model, diffusion, channels, size, task)
