"""Helpers of the stages that use nets: building nets from parameters, and reading them back from models/."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import safe_open
from torch import Tensor, nn

from cspipe.compensation import CompensationSettings
from cspipe.config.params import Params
from cspipe.data.conditions import TASKS, condition_channels
from cspipe.data.seeds import derive_seed
from cspipe.data.user_masks import FILE as MASKS
from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.nets.backbone import Backbone, BackboneSettings
from cspipe.runtime.collectives import parallel
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.models import FILE, load_net, read_config
from cspipe.runtime.settings import Count, WholeNumber, file_of
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED
from cspipe.runtime.wording import printable

MOST_PIXELS = 1024
"""Largest side of an image in pixels, as for data.size in params.yaml."""
MEAN = "data.mean"
"""Name of a tensor in a main net's file: the mean of the training images."""
UNTOLD = {"train": {"method": "unknown"}, "images_seen": 0, "seed": None, "code": {}}
"""Facts of a main net's training, for files that do not contain them."""


def new_main(params: Params, device: Device) -> nn.Module:
    """Build a main net with weights drawn from the run's seed."""
    torch.manual_seed(derive_seed(params.seed, "main net"))
    return device.place(_build_main(params.model, params.diffusion, *_shape(params)))


def new_compensator(params: Params, device: Device) -> nn.Module:
    """Build a net C with weights drawn from the run's seed; its output is zero until it is trained."""
    torch.manual_seed(derive_seed(params.seed, "module"))
    return _place_compensator(_build_compensator(params.compensation, *_shape(params)), device)


def _shape(params: Params) -> tuple[str, int, int]:
    """(task, channels of the images, their size in pixels)."""
    return params.task, params.data.channels, params.data.size


def _build_main(
    model: BackboneSettings, diffusion: DiffusionSettings, task: str, channels: int, size: int
) -> nn.Module:
    return model.build(main_in_channels(diffusion, task, channels), channels, size)


def main_in_channels(diffusion: DiffusionSettings, task: str, channels: int) -> int:
    """Input channels of a main net: the image, the task's condition and, if self-conditioned, its own estimate."""
    return channels + condition_channels(task, channels) + (channels if diffusion.self_condition else 0)


def _build_compensator(settings: CompensationSettings, task: str, channels: int, size: int) -> nn.Module:
    return settings.build(compensator_in_channels(task, channels), channels, size)


def compensator_in_channels(task: str, channels: int) -> int:
    """Input channels of a net C: the estimate x0_hat and the task's condition."""
    return channels + condition_channels(task, channels)


def _place_compensator(net: nn.Module, device: Device) -> nn.Module:
    """Move C to the device, and compile it if the main net is compiled."""
    net = device.place(net)
    if device.compile:
        net.compile(dynamic=False)
    return net


def conditions_of(params: Params) -> dict[str, Any] | None:
    """Settings of the conditions, for a model file; None for a net without conditions."""
    if params.task == "generate":
        return None
    return {**params.condition.model_dump(exclude={"mask_folder"}), "masks_sha256": masks_sha256(params)}


def masks_sha256(params: Params) -> str | None:
    """Hash of the user's prepared masks; None without any. It stands for their path, which means nothing elsewhere."""
    return None if params.condition.mask_folder is None else sha256_file(PREPARED / MASKS)


def new_denoiser(net: nn.Module, diffusion: DiffusionSettings, device: Device, multiple: int = 1) -> NetDenoiser:
    """Wrap the main net as (x_t, t) -> x0_hat; compiled if params.yaml says so, with a graph for each batch size."""
    shared = parallel(net)
    called = torch.compile(shared, dynamic=False) if device.compile else shared
    scaled = TimestepScaledNet(
        called,  # type: ignore[arg-type]  # torch.compile of a module is one
        diffusion.steps,
        device,
        self_conditioned=diffusion.self_condition,
        multiple=multiple,
    )
    return NetDenoiser(scaled, diffusion.prediction, diffusion.new_schedule().to(device.device))


def net_folder(snapshot: int | None, main: Path = MAIN) -> Path:
    """Folder of a main net: `main` for the finished one, a folder in it for the EMA weights after `snapshot` images."""
    return main if snapshot is None else main / "snapshots" / str(snapshot)


class _Stored(BaseModel):
    """Keys of a model file's configuration that are used; other keys may be anything."""

    task: Annotated[str, file_of(TASKS)]
    channels: Literal[1, 3]
    size: Annotated[Count, Field(le=MOST_PIXELS, multiple_of=4)]
    code: dict[str, Any] = {}

    @property
    def shape(self) -> tuple[str, int, int]:
        """(task, channels, size), as `_shape` reads them from params.yaml."""
        return self.task, self.channels, self.size


class _Train(BaseModel):
    method: str


class _StoredMain(_Stored):
    model: Backbone
    diffusion: DiffusionSettings
    train: _Train
    images_seen: WholeNumber
    seed: WholeNumber | None


class _StoredCompensator(_Stored):
    compensation: CompensationSettings


StoredT = TypeVar("StoredT", bound=_Stored)


def _validated(kind: type[StoredT], config: dict[str, Any], folder: Path, stage: str) -> StoredT:
    """Validate a model's configuration. Raises UserError if its keys are not this version's."""
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{folder / FILE}: made by another version of this project, or by something else ({printable(key):.80}: "
            f"{printable(problem['msg']):.300}); run `dvc repro {stage}`, or use that version"
        ) from None


def finished_denoiser(device: Device, folder: Path = MAIN) -> tuple[NetDenoiser, dict[str, Any]]:
    """Load the trained main net (EMA weights, frozen) of a folder, with its configuration. Raises UserError."""
    config = {**UNTOLD, **read_config(folder, "train")}
    stored = _validated(_StoredMain, config, folder, "train")
    net = load_net(partial(_build_main, stored.model, stored.diffusion, *stored.shape), folder, "ema")
    try:  # only now, as these checks may build a net, of any size
        stored.model.check_size(stored.size)
        stored.model.check_steps(stored.diffusion.steps)
    except ValueError as error:
        raise UserError(f"{folder / FILE}: {error}; run `dvc repro train`") from None
    net = device.place(net).eval().requires_grad_(False)
    return new_denoiser(net, stored.diffusion, device), config


def finished_compensator(
    device: Device, steps: int, folder: Path = COMPENSATION, main: Mapping[str, Any] | None = None
) -> TimestepScaledNet:
    """Load C of the compensate stage, frozen, from a folder. Raises UserError.

    main: configuration of a main net; C must be for the same images.
    """
    stored = _validated(_StoredCompensator, read_config(folder, "compensate"), folder, "compensate")
    if main:
        check_images(folder, vars(stored), main, "the main net's", "run `dvc repro compensate`")
    net = load_net(partial(_build_compensator, stored.compensation, *stored.shape), folder, "module")
    return TimestepScaledNet(_place_compensator(net, device).eval().requires_grad_(False), steps, device)


def check_images(folder: Path, config: Mapping[str, Any], wanted: Mapping[str, Any], whose: str, advice: str) -> None:
    """Raise UserError if the model in a folder is for another task, channels or size of images than wanted."""
    for key in ("task", "channels", "size"):
        if config[key] != wanted[key]:
            raise UserError(f"{folder / FILE}: {key} {config[key]}, {whose} is {wanted[key]}; {advice}")


def check_fit_against(compensation: Path, main: Path) -> None:
    """Raise UserError if C in one folder was not fit against the main net in the other."""
    if read_config(compensation, "compensate").get("main_sha256") != sha256_file(main / FILE):
        fix = "run `dvc repro compensate`, or sample without a correction"
        raise UserError(f"{compensation}: fit against another net than that of {main}; {fix}")


def has_mean(folder: Path) -> bool:
    """Whether the file of a main net has the mean of the training images."""
    with safe_open(folder / FILE, framework="pt") as file:
        return MEAN in file.keys()  # noqa: SIM118 (not a dict)


def usual_terminal(denoise: NetDenoiser, folder: Path) -> Literal["net", "mean"]:
    """Default `terminal` of a variant: "mean" for an eps-net, whose estimate at T is noise, if the mean is stored."""
    return "mean" if denoise.prediction == "eps" and has_mean(folder) else "net"


def stored_mean(device: Device, folder: Path, shape: tuple[int, int, int]) -> Tensor:
    """Read the mean of the training images, (C, H, W) in [-1, 1], from a main net's folder. Raises UserError."""
    if not has_mean(folder):
        raise UserError(
            f"{folder / FILE}: has no {MEAN}, as it was trained by another version of this project or imported; for "
            "terminal: mean run `dvc repro train`, or set terminal: net in params.yaml"
        )
    with safe_open(folder / FILE, framework="pt") as file:
        mean: Tensor = file.get_tensor(MEAN)
    if mean.shape != shape or mean.dtype != torch.float32:
        raise UserError(f"{folder / FILE}: {MEAN} is {mean.dtype} {tuple(mean.shape)}, not of images {shape}")
    return mean.to(device.device)


def write_tsv(path: Path, rows: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Write rows of numbers with six significant digits, as DVC's plots read them; without rows, only the heading."""
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{row[column]:.6g}" for column in columns] for row in rows])
