"""Read folders of diffusers with a UNet2DModel and, beside it, the scheduler that it was trained with."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cspipe.backbones.unet2d import SHAPE
from cspipe.diffusion.schedule import SCHEDULES
from cspipe.exchange.diffusers_folder import PREDICTIONS, WEIGHTS
from cspipe.exchange.foreign import STEPS, Foreign, read_json, read_tensors
from cspipe.runtime.errors import UserError
from cspipe.runtime.wording import printable
from cspipe.stages.nets import MOST_PIXELS

SCHEDULER = "scheduler_config.json"
OLD = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Old parts of the names of attention weights, which diffusers still reads, and the current ones."""


def read_folder(folder: Path) -> tuple[Foreign, Path]:
    """Read the net of a pipeline's folder, or of its unet/ alone; return it and its weights file. Raises UserError."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = read_json(unet / "config.json")
    name = config.pop("_class_name", None)
    if name != "UNet2DModel":
        ours = "a model of this project is not imported: its models/main goes into train.start_from"
        told = f"_class_name is {_told(name)}; only UNet2DModel can be imported"
        raise UserError(f"{unet / 'config.json'}: {told} ({ours})")
    for key in ("num_class_embeds", "class_embed_type"):
        if config.get(key) is not None:
            what = f"{key} {_told(config[key])}"
            raise UserError(f"{unet / 'config.json'}: {what}: nets that need labels cannot be imported")
    if config.get("time_embedding_type", "positional") != "positional":
        raise UserError(f"{unet / 'config.json'}: time_embedding_type must be positional, for times 0..{STEPS - 1}")
    seen, told, size = (config.pop(key, default) for key, default in zip(SHAPE, (3, 3, None), strict=True))
    size = size[0] if isinstance(size, list) and len(set(map(str, size))) == 1 else size
    if seen != told or seen not in (1, 3) or not isinstance(size, int) or not 1 <= size <= MOST_PIXELS:
        raise UserError(
            f"{unet / 'config.json'}: in_channels {_told(seen)}, out_channels {_told(told)}, sample_size {_told(size)} "
            f"must be square images of 1 or 3 channels, as many out as in, and of at most {MOST_PIXELS} pixels"
        )
    weights = next((path for path in (unet / WEIGHTS, unet / "diffusion_pytorch_model.bin") if path.exists()), None)
    if weights is None:
        raise UserError(f"{unet}: has no {WEIGHTS}; save the model with save_pretrained, in one file")
    keys = {key: value for key, value in config.items() if not key.startswith("_")}
    state = {f"unet.{_renamed(name)}": tensor for name, tensor in read_tensors(weights).items()}
    return Foreign("diffusers", {"name": "unet2d", "config": keys}, seen, size, state), weights


def _told(value: Any) -> str:
    """Format a value of an untrusted file for a message: one line of at most 100 characters."""
    return printable(str(value))[:100]


def _renamed(name: str) -> str:
    for old, new in OLD.items():
        name = name.replace(old, new)
    return name


def read_scheduler(folder: Path) -> tuple[str | None, str | None]:
    """Return schedule and prediction of a pipeline's folder; None for both without a scheduler. Raises UserError."""
    places = (folder / "scheduler" / SCHEDULER, folder / SCHEDULER)  # the second in pipelines without subfolders
    if (path := next((place for place in places if place.exists()), None)) is None:
        return None, None
    config = read_json(path)
    predictions = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    predicts = str(config.get("prediction_type", "epsilon"))
    if predicts not in predictions:
        raise UserError(f"{path}: prediction_type {_told(predicts)} is none of {', '.join(predictions)}")
    if config.get("num_train_timesteps", STEPS) != STEPS:
        raise UserError(f"{path}: num_train_timesteps {_told(config['num_train_timesteps'])} must be {STEPS}")
    return _schedule(config, path), predictions[predicts]


def _schedule(config: dict[str, Any], path: Path) -> str:
    """Return the name of our schedule that has a scheduler's noise levels. Raises UserError if there is none."""
    kind = "trained_betas" if config.get("trained_betas") is not None else config.get("beta_schedule")
    if config.get("rescale_betas_zero_snr"):
        raise UserError(f"{path}: rescale_betas_zero_snr: its last level is pure noise, as in no schedule here")
    with suppress(KeyError, TypeError, ValueError, RuntimeError):
        if kind == "squaredcos_cap_v2":
            return "cosine"
        first, last = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
        linear = torch.linspace(first, last, STEPS, dtype=torch.float64)
        betas = {"linear": linear, "trained_betas": config.get("trained_betas")}[str(kind)]
        alpha_bar = torch.cumprod(1 - torch.as_tensor(betas, dtype=torch.float64), 0)
        for name, new in SCHEDULES.items():
            if torch.allclose(new(STEPS).sqrt_alpha_bar[1:] ** 2, alpha_bar, rtol=1e-3, atol=1e-6):
                return name
    raise UserError(f"{path}: beta_schedule {_told(kind)}, or its ends match none of {', '.join(SCHEDULES)}")
