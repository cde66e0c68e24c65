"""Trained nets as safetensors files that describe themselves."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cspipe.runtime.errors import UserError

FILE = "model.safetensors"
DIGESTS = "sha256"
"""Key of the configuration: a digest for each key of weights, of these and of the rest of the configuration."""


def save_model(folder: Path, weights: dict[str, nn.Module], config: dict[str, Any]) -> None:
    """Write `folder/model.safetensors`, tensors named `<key of weights>.<parameter>`, and config.json.

    The configuration stands in the file's metadata too, so that it survives copying the file alone.
    """
    tensors, digests = dict[str, Tensor](), dict[str, str]()
    for key, net in weights.items():
        named = {f"{key}.{name}": tensor.contiguous().cpu() for name, tensor in net.state_dict().items()}
        tensors |= named
        digests[key] = _digest(config, named)
    text = json.dumps({**config, DIGESTS: digests}, indent=2) + "\n"
    try:
        save_file(tensors, folder / FILE, metadata={"cspipe": text})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))  # a full disk, say, which only its text tells
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder / FILE)) from None
    (folder / "config.json").write_text(text)


def read_config(folder: Path, stage: str) -> dict[str, Any]:
    """The configuration stored with a model. Raises UserError naming the stage that makes it."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            config = dict(json.loads(file.metadata()["cspipe"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FILE}: not a model of this project ({error}); run `dvc repro {stage}`") from None
    config.pop(DIGESTS, None)  # load_weights compares it
    return config


def load_weights(net: nn.Module, folder: Path, key: str) -> None:
    """Fill `net` with the tensors named `<key>.*`. Raises UserError if they are damaged, or do not fit it."""
    with safe_open(folder / FILE, framework="pt") as file:
        config = json.loads(file.metadata()["cspipe"])
        names = [name for name in file.keys() if name.startswith(f"{key}.")]  # noqa: SIM118 (not a dict)
        tensors = {name: file.get_tensor(name) for name in names}
    digest = config.pop(DIGESTS, {}).get(key)  # models of earlier versions have none
    if digest not in (None, _digest(config, tensors)):
        raise UserError(f"{folder / FILE}: damaged (not what was stored); remove it, and `dvc repro` makes it again")
    state = {name.removeprefix(f"{key}."): tensor for name, tensor in tensors.items()}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{folder / FILE}: weights {key!r} do not fit the net of its configuration: {error}") from None


def _digest(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Sha256 of weights and of the configuration that says how they are used."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
