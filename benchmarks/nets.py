"""Compare times of nets on this machine's CPU; run as `OMP_NUM_THREADS=1 python benchmarks/nets.py`.

Prints ratios of time for the demo's nets (16 x 16 pixels, 64 images): channels_last over contiguous in a training step,
and each compensation net over the main net in a forward pass. Variants take turns, so a busy machine slows all alike.
`--smallest` takes 4 images and fewer rounds: seconds, and numbers of no use.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch

from cspipe.nets.unet import UNet
from cspipe.runtime.registry import find, names_in

WARM_UP = 2
"""Number of warm-up rounds, whose times do not count."""


def main_net(channels: int) -> UNet:
    """Return the demo's main net with a first level of this width."""
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


def seconds(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median processor time of each action, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(WARM_UP + rounds):
        for name, action in actions.items():
            start = time.process_time()
            action()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(spent[WARM_UP:]) for name, spent in times.items()}


def training_step(net: torch.nn.Module, x: torch.Tensor, memory_format: torch.memory_format) -> Callable[[], object]:
    """Return a function that runs forward and backward on a batch (N, 3, 16, 16) in a memory format."""
    net, x = net.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    t = 1000 * torch.rand(len(x))
    return lambda: net(x, t).square().mean().backward()


def forward(net: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Return a function that runs the forward pass on a batch, without gradient."""
    t = 1000 * torch.rand(len(x))
    return torch.no_grad()(lambda: net(x, t))


def main() -> None:
    """Measure the ratios and print them."""
    smallest = "--smallest" in sys.argv
    x, rounds = torch.randn(4 if smallest else 64, 3, 16, 16), 1 if smallest else 7
    for channels in (32, 48):
        formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        steps = {name: training_step(main_net(channels), x, kept) for name, kept in formats.items()}
        spent = seconds(steps, rounds)
        print(f"width {channels}: channels_last takes {spent['channels_last'] / spent['contiguous']:.2f} of contiguous")
    folder, width = "cspipe.compensators", 16
    modules = {name: find(folder, name, "build")(3, 3, x.shape[-1], width) for name in names_in(folder)}
    nets = {"main net": main_net(32), **modules}
    spent = seconds({name: forward(net, x) for name, net in nets.items()}, rounds)
    for name in modules:
        share = spent[name] / spent["main net"]
        print(f"compensation {name}, width {width}: {share:.2f} of the main net's forward pass")


if __name__ == "__main__":
    main()
