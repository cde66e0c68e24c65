"""What the stages with nets share: building them from parameters and reading them back from models/."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open
from torch import nn

from cspipe.compensation import CompensationSettings
from cspipe.config.params import Params
from cspipe.data.conditions import condition_channels
from cspipe.data.seeds import derive_seed
from cspipe.data.user_masks import FILE as MASKS
from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.nets.backbone import Backbone, BackboneSettings
from cspipe.runtime.bounded import bounded
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.models import FILE, load_weights, read_config
from cspipe.runtime.registry import names_in
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED

MOST_PIXELS = 2048
"""Of an image's side, in model files that come from anywhere."""


def new_main(params: Params, device: Device) -> nn.Module:
    """A main net with weights drawn from the run's seed."""
    torch.manual_seed(derive_seed(params.seed, "main net"))
    return _build_main(params.model, params.diffusion, *_shape(params)).to(device.device)


def new_compensator(params: Params, device: Device) -> nn.Module:
    """A net C with weights drawn from the run's seed; its output is zero."""
    torch.manual_seed(derive_seed(params.seed, "module"))
    return _build_compensator(params.compensation, *_shape(params)).to(device.device)


def _shape(params: Params) -> tuple[str, int, int]:
    """Task, channels and size of the images."""
    return params.task, params.data.channels, params.data.size


def _build_main(
    model: BackboneSettings, diffusion: DiffusionSettings, task: str, channels: int, size: int
) -> nn.Module:
    """The main net: its input is the image, the task's condition and, self-conditioned, its own estimate."""
    self_cond = channels if diffusion.self_condition else 0
    return model.build(channels + condition_channels(task, channels) + self_cond, channels, size)


def _build_compensator(settings: CompensationSettings, task: str, channels: int, size: int) -> nn.Module:
    """C: its input is the estimate and the task's condition."""
    return settings.build(channels + condition_channels(task, channels), channels, size)


def conditions_of(params: Params) -> dict[str, Any] | None:
    """What a model file tells of its conditions; None for a net without any."""
    if params.task == "generate":
        return None
    return {**params.condition.model_dump(exclude={"mask_folder"}), "masks_sha256": masks_sha256(params)}


def masks_sha256(params: Params) -> str | None:
    """Hash of the user's prepared masks, None without any: the path that they came from means nothing elsewhere."""
    return None if params.condition.mask_folder is None else sha256_file(PREPARED / MASKS)


def new_denoiser(net: nn.Module, diffusion: DiffusionSettings, device: Device) -> NetDenoiser:
    """The main net as (x_t, t) -> x0_hat; compiled if the parameters say so."""
    called = torch.compile(net) if device.compile else net
    scaled = TimestepScaledNet(called, diffusion.steps, device, self_conditioned=diffusion.self_condition)  # type: ignore[arg-type]  # torch.compile of a module is one
    return NetDenoiser(scaled, diffusion.prediction, diffusion.new_schedule().to(device.device))


def finished_denoiser(device: Device, folder: Path = MAIN) -> tuple[NetDenoiser, dict[str, Any]]:
    """The trained main net (EMA weights, frozen) of a folder with its configuration. Raises UserError."""
    config = read_config(folder, "train")

    def build() -> nn.Module:
        """The net of its configuration."""
        settings = DiffusionSettings.model_validate(config["diffusion"])
        model = stored_backbone(config, folder)
        channels, size, task = config["channels"], config["size"], config["task"]
        if channels not in (1, 3) or not 1 <= size <= MOST_PIXELS or task not in names_in("cspipe.tasks"):
            raise ValueError(f"task {task!r:.40} on images of {channels} channels and {size} pixels")
        return _build_main(model, settings, task, channels, size)

    net = _restored(build, folder, "ema").to(device.device)
    return new_denoiser(net, DiffusionSettings.model_validate(config["diffusion"]), device), config


def _restored(build: Callable[[], nn.Module], folder: Path, key: str) -> nn.Module:
    """The net of a configuration with its weights, frozen. Raises UserError.

    Files come from anywhere: nothing is allocated for a net that is larger than its file.
    """
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (not a dict)
        bounded(build, len(shapes), sum(map(prod, shapes)))
        net = build()
    except UserError:
        raise
    except Exception as error:  # sizes that fit nothing fail at any place of a net
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder / FILE}: its configuration describes no net ({reason}); take another file") from None
    load_weights(net, folder, key)
    return net.eval().requires_grad_(False)


def stored_backbone(config: Mapping[str, Any], folder: Path) -> BackboneSettings:
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

    def build() -> nn.Module:
        """C of its configuration."""
        settings = CompensationSettings.model_validate(config["compensation"])
        return _build_compensator(settings, config["task"], config["channels"], config["size"])

    return TimestepScaledNet(_restored(build, folder, "module").to(device.device), steps, device)


def check_fit_against(compensation: Path, main: Path) -> None:
    """Whether C in one folder was fit against the main net in another. Raises UserError."""
    if read_config(compensation, "compensate").get("main_sha256") != sha256_file(main / FILE):
        fix = "run `dvc repro compensate`, or sample without a correction"
        raise UserError(f"{compensation}: fit against another net than that of {main}; {fix}")


def write_tsv(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Rows of numbers with six significant digits, as DVC's plots read them; the heading alone if there are none."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{row[column]:.6g}" for column in columns] for row in rows])
