"""Nets that a foreign file describes: none is built that has more weights than the file."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

MOST_BUFFERS = 2**26
"""Numbers that a net holds beside its weights, such as positions."""


def bounded(build: Callable[[], nn.Module], tensors: int, numbers: int) -> nn.Module:
    """The net without its numbers, on the meta device. Raises ValueError once it has more tensors or numbers."""
    seen = [0, 0]

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        """Torch's hook, called for every weight."""
        seen[0] += 1
        seen[1] += parameter.numel()
        if seen[0] > tensors or seen[1] > numbers:
            raise ValueError(f"it describes more weights than the file has ({tensors} tensors, {numbers} numbers)")

    with register_module_parameter_registration_hook(count), torch.device("meta"):
        net = build()
    if sum(buffer.numel() for buffer in net.buffers()) > MOST_BUFFERS:
        raise ValueError(f"it describes a net with more than {MOST_BUFFERS} numbers beside its weights")
    return net
