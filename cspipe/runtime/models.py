"""Trained nets as safetensors files that contain their own configuration."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE
from threading import get_ident
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cspipe.runtime.errors import UserError

FILE = "model.safetensors"
DIGEST = "weights_sha256"
"""Key of the configuration: sha256 of all weights and of the rest of the configuration."""
LARGEST_TABLES = 2**28
"""Most numbers in a net's buffers, such as positions: the file does not contain them, so it does not limit them."""


def save_model(folder: Path, weights: dict[str, nn.Module], config: dict[str, Any]) -> None:
    """Write `folder/model.safetensors`, tensors named `<key of weights>.<parameter>`, and config.json.

    The configuration is in the metadata of model.safetensors too, so that the file can be copied without config.json.
    """
    tensors: dict[str, Tensor] = {
        f"{key}.{name}": tensor.contiguous().cpu()
        for key, net in weights.items()
        for name, tensor in net.state_dict().items()
    }
    text = json.dumps({**config, DIGEST: _digest(config, sorted(tensors.items()))}, indent=2) + "\n"
    try:
        save_tensors(tensors, folder / FILE, {"cspipe": text})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))  # such as a full disk: only the text contains it
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder / FILE)) from None
    (folder / "config.json").write_text(text)


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions of any new file; safetensors lets only the owner read it."""
    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata)
    with suppress(OSError):  # the disk may not store permissions
        file.chmod(S_IMODE(mode))


def read_config(folder: Path, stage: str) -> dict[str, Any]:
    """Read the configuration stored with a model. Raises UserError, naming `stage`, if it is missing or damaged."""
    try:
        if not (folder / FILE).exists():
            fix = f"correct the path, or run `dvc repro {stage}` in the project's root"
            raise UserError(f"{folder / FILE}: not there; {fix}")
        if not (folder / FILE).is_file():
            raise ValueError("no plain file")
        with safe_open(folder / FILE, framework="pt") as file:
            config = dict(json.loads(file.metadata()["cspipe"]))
            digest, names = config.pop(DIGEST), sorted(file.keys())
            if digest != _digest(config, ((name, file.get_tensor(name)) for name in names)):
                raise ValueError("damaged since it was stored: remove it")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{folder / FILE}: not a model of this project ({error}); run `dvc repro {stage}`") from None
    return config


def load_net(build: Callable[[], nn.Module], folder: Path, key: str) -> nn.Module:
    """Build a net and load the tensors named `<key>.*` into it. Raises UserError if they do not fit it.

    The net is built only once its parameters are known to match the file's: its configuration may be untrusted.
    """
    with safe_open(folder / FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{key}.")]  # noqa: SIM118 (not a dict)
        state = {name.removeprefix(f"{key}."): file.get_tensor(name) for name in names}
    try:
        fitting(build, state)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:  # the others: sizes beyond any tensor's
        raise UserError(f"{folder / FILE}: weights {key!r} do not fit the net of its configuration: {error}") from None
    net = build()
    net.load_state_dict(state)
    return net


def fitting(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """Build a net on the meta device, without memory. Raises ValueError if `state` does not fit it."""
    registered: list[str] = []
    here = get_ident()

    def count(_: nn.Module, name: str, __: nn.Parameter) -> None:
        """Count a parameter; a hook that torch calls for every one, also for nets that other threads build."""
        if get_ident() == here:
            registered.append(name)
        if len(registered) > len(state):
            raise ValueError(f"it has more parameters than the {len(state)} tensors")

    with register_module_parameter_registration_hook(count), torch.device("meta"):
        net = build()
    if sum(table.numel() for table in net.buffers()) > LARGEST_TABLES:
        raise ValueError(f"it has tables of more than {LARGEST_TABLES} numbers")
    wanted = {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in net.state_dict().items()}
    found = {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(f"{name:.80} is {found.get(name, 'missing')}, not {wanted.get(name, 'there')}")
    return net


def _digest(config: Mapping[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Sha256 of a configuration and of tensors in the order of their names."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
