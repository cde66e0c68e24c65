"""Trained nets as safetensors files that describe themselves."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cspipe.runtime.errors import UserError

FILE = "model.safetensors"
DIGEST = "weights_sha256"
"""Key of the configuration: of all weights and of the rest of the configuration."""


def save_model(folder: Path, weights: dict[str, nn.Module], config: dict[str, Any]) -> None:
    """Write `folder/model.safetensors`, tensors named `<key of weights>.<parameter>`, and config.json.

    The configuration stands in the file's metadata too, so that it survives copying the file alone.
    """
    tensors: dict[str, Tensor] = {
        f"{key}.{name}": tensor.contiguous().cpu()
        for key, net in weights.items()
        for name, tensor in net.state_dict().items()
    }
    text = json.dumps({**config, DIGEST: _digest(config, sorted(tensors.items()))}, indent=2) + "\n"
    try:
        save_file(tensors, folder / FILE, metadata={"cspipe": text})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))  # a full disk, say, which only its text tells
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder / FILE)) from None
    (folder / "config.json").write_text(text)


def read_config(folder: Path, stage: str) -> dict[str, Any]:
    """The configuration stored with a model. Raises UserError naming the stage that makes it, as for a damaged file."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            config = dict(json.loads(file.metadata()["cspipe"]))
            digest, names = config.pop(DIGEST), sorted(file.keys())
            if digest != _digest(config, ((name, file.get_tensor(name)) for name in names)):
                raise ValueError("damaged since it was stored: remove it")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FILE}: not a model of this project ({error}); run `dvc repro {stage}`") from None
    return config


def load_weights(net: nn.Module, folder: Path, key: str) -> None:
    """Fill `net` with the tensors named `<key>.*`. Raises UserError if they do not fit it."""
    with safe_open(folder / FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{key}.")]  # noqa: SIM118 (not a dict)
        state = {name.removeprefix(f"{key}."): file.get_tensor(name) for name in names}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{folder / FILE}: weights {key!r} do not fit the net of its configuration: {error}") from None


def _digest(config: Mapping[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Sha256 of a configuration and of tensors in the order of their names."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
