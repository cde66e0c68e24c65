"""Ratios of time on this machine's CPU; run as `OMP_NUM_THREADS=1 python benchmarks/nets.py`.

Prints, for the demo's nets (16 x 16 pixels, 64 images): channels_last over contiguous for a training step, and each
compensation net over the main net for a forward pass. Variants take turns, so a busy machine slows all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from cspipe.nets.unet import UNet
from cspipe.runtime.registry import find, names_in

ROUNDS = 9
X, T = torch.randn(64, 3, 16, 16), 1000 * torch.rand(64)


def main_net(channels: int) -> UNet:
    """The demo's main net at this width."""
    return UNet(
        in_channels=3,
        out_channels=3,
        size=16,
        channels=channels,
        blocks=1,
        multipliers=(1, 2, 2),
        attention=(8,),
        head_channels=channels,
        dropout=0.0,
    )


def seconds(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median processor time of each action; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            start = time.process_time()
            action()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(spent[2:]) for name, spent in times.items()}


def training_step(net: torch.nn.Module, memory_format: torch.memory_format) -> Callable[[], object]:
    """Forward and backward of a batch in a memory format."""
    net, x = net.to(memory_format=memory_format), X.contiguous(memory_format=memory_format)
    return lambda: net(x, T).square().mean().backward()


def forward(net: torch.nn.Module) -> Callable[[], object]:
    """Forward of a batch, without gradient."""
    return torch.no_grad()(lambda: net(X, T))


def main() -> None:
    """Measure and print."""
    for channels in (32, 48):
        spent = seconds(
            {
                "contiguous": training_step(main_net(channels), torch.contiguous_format),
                "channels_last": training_step(main_net(channels), torch.channels_last),
            }
        )
        print(f"width {channels}: channels_last takes {spent['channels_last'] / spent['contiguous']:.2f} of contiguous")
    folder = "cspipe.compensators"
    nets = {"main": main_net(32)} | {name: find(folder, name, "build")(3, 16, 16) for name in names_in(folder)}
    spent = seconds({name: forward(net) for name, net in nets.items()})
    for name in names_in(folder):
        print(f"compensation {name}, width 16: {spent[name] / spent['main']:.2f} of the main net's forward pass")


if __name__ == "__main__":
    main()
