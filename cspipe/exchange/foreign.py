"""Turn models of other libraries into a folder like that of the train stage. Their files are not trusted."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from torch import Tensor, nn

from cspipe.data.grid import grid, save_png
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.nets.backbone import Backbone, BackboneSettings
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_folder
from cspipe.runtime.models import fitting, save_model
from cspipe.runtime.wording import printable
from cspipe.stages.nets import MOST_PIXELS, write_tsv
from cspipe.stages.train import CURVES, NORMS, SCHEDULE, schedule_rows

State = dict[str, Tensor]
STEPS = 1000
"""Number of diffusion steps of every imported net but EDM's: nets see times 0..999."""


@dataclass(frozen=True)
class Foreign:
    """A net of this package with the weights of another library, renamed to the names of the net."""

    kind: str
    """Origin of the weights: diffusers, guided-diffusion, DDPM or EDM."""
    model: Mapping[str, Any]
    """Section `model` of params.yaml."""
    channels: int
    size: int
    state: State
    groups: Callable[[int], int] | None = None
    """Number of groups of a norm in the source, by its number of channels; None: what `model` says."""
    diffusion: Mapping[str, Any] = field(default_factory=dict)
    """Values of the section `diffusion` that follow from the weights."""


def read_tensors(path: Path) -> State:
    """Read the tensors of a safetensors file, or of a pickle of tensors alone, as float32. Raises UserError."""
    try:
        if not path.is_file():
            raise ValueError("not there, or no plain file")
        if path.suffix == ".safetensors":
            tree: Any = load_file(path)
        elif is_zipfile(path) and any(part.compress_type for part in ZipFile(path).infolist()):
            raise ValueError("compressed, as torch.save writes none")
        else:
            with warnings.catch_warnings(action="ignore"):  # torch warns of newer pickle protocols
                tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        convert = "torch.save(net.state_dict(), 'weights.pt') where that code is"
        kind = "no file of tensors alone, and a pickle that runs code, as EDM's do, is not read"
        raise UserError(f"{path}: {kind}; write {convert}") from None
    except Exception as error:  # an untrusted file may fail anywhere in a reader
        raise UserError(f"{path}: not a file of weights ({first_line(error)}); name a safetensors file") from None
    tree = tree[0] if isinstance(tree, list | tuple) and tree else tree  # (weights, optimiser, ...), as DDIM's
    for key in ("ema", "state_dict", "model"):
        tree = tree[key] if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping) else tree
    if not isinstance(tree, Mapping) or not all(map(_is_dense, tree.values())):
        raise UserError(f"{path}: not a dict of dense tensors of real floats; save the net's state_dict alone")
    state = {str(name).removeprefix("module."): tensor for name, tensor in tree.items()}
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > 2 * path.stat().st_size:
        raise UserError(f"{path}: its tensors say they are larger than the file; save the net's state_dict anew")
    state = {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()}  # two names may share one
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{path}: {printable(broken[0]):.100} is not finite throughout; use finite weights")
    return state


def _is_dense(weight: Any) -> bool:
    """Whether `weight` is a dense tensor of real floats: not sparse, quantised or without data (meta)."""
    dense = isinstance(weight, Tensor) and weight.layout == torch.strided and not weight.is_meta
    return dense and weight.is_floating_point()


def write_model(foreign: Foreign, name: str, source: Path, diffusion: DiffusionSettings, out: Path) -> dict[str, Any]:
    """Write the model folder and return its config. Raises UserError where settings and weights do not fit.

    `source` is the file of weights, `name` that of what the user gave: this file, or its folder. Config values that
    only training knows are empty: images seen, seed, hash of data, code.
    """
    try:
        model: BackboneSettings = TypeAdapter(Backbone).validate_python(foreign.model)
        shape = (foreign.channels, foreign.channels, foreign.size)
        net = fitting(lambda: model.build(*shape), foreign.state)
        model.check_size(foreign.size)
        _check_groups(net, foreign.groups)
        if foreign.size % 4 or foreign.size > MOST_PIXELS:
            raise ValueError(f"size {foreign.size} is no multiple of 4 up to {MOST_PIXELS}")
        net.load_state_dict(foreign.state, assign=True)
    except UserError:
        raise
    except Exception as error:  # a mismatch may fail anywhere in a net
        raise UserError(f"{source}: not a net that can be imported ({first_line(error)})") from None
    config = {
        "model": model.model_dump(), "diffusion": diffusion.model_dump(), "channels": foreign.channels,
        "size": foreign.size, "task": "generate", "condition": None, "parameters": count_parameters(net),
        "seed": None, "train": {"method": f"imported ({foreign.kind})"}, "module": None, "data_sha256": None,
        "code": {}, "images_seen": 0, "source": name, "source_sha256": sha256_file(source),
    }  # fmt: skip
    with whole_folder(out) as folder:
        save_model(folder, {"ema": net}, config)
        blank = np.zeros((1, foreign.channels, foreign.size, foreign.size), np.uint8)  # no samples of a training
        save_png(grid(blank, 1), folder / "progress.png")
    return config


def _check_groups(net: nn.Module, wanted: Callable[[int], int] | None) -> None:
    """Check that norms have as many groups as in the source. Raises ValueError if not."""
    for norm in net.modules():
        if wanted and isinstance(norm, nn.GroupNorm) and norm.num_groups != wanted(norm.num_channels):
            found = f"{norm.num_groups} groups here, {wanted(norm.num_channels)} there"
            raise ValueError(f"norm of {norm.num_channels} channels: {found}")


def write_curves(diffusion: DiffusionSettings) -> None:
    """Write the train stage's other outputs, its curves without rows: DVC needs the files, and old curves mislead."""
    with whole_folder(CURVES) as folder:
        plots = folder / "plots" / "metrics"
        plots.mkdir(parents=True)
        for name in ("loss", "grad_norm", "share"):
            write_tsv(plots / f"{name}.tsv", [], ("step", name))
        (folder / "metrics.json").write_text(json.dumps({"step": 0}) + "\n")
    write_tsv(NORMS, [], ("t", "norm_ratio", "error"))
    write_tsv(SCHEDULE, schedule_rows(diffusion.new_schedule()), ("t", "alpha_bar", "kappa"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file below 1 MiB. Raises UserError."""
    with suppress(OSError, ValueError, RecursionError):
        tree = json.loads(path.read_bytes()) if path.is_file() and path.stat().st_size < 2**20 else None
        if isinstance(tree, dict):
            return tree
    raise UserError(f"{path}: is not there, or no JSON object of at most 1 MiB; save the model anew")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the second of torch's load errors, which says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[1] if lines[0].startswith("Error(s) in loading") and len(lines) > 1 else lines[0])[:300]
