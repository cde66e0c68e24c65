"""Devices: what is refused, and the paths of a GPU run on the CPU where they can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from cspipe.compute import Device, open_device
from cspipe.errors import UserError
from cspipe.params import Params
from cspipe.stages.train import new_trainee
from cspipe.training.batches import batches
from cspipe.training.examples import Batch, Examples
from tests.conftest import Pictures

Make = Callable[..., Params]
CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_told_and_auto_does_without(params: Make) -> None:
    with pytest.raises(UserError, match=r"compute\.device is cuda, but torch finds no GPU"):
        open_device(params({"compute.device": "cuda"}).compute)
    assert open_device(params({"compute.device": "auto"}).compute).name == "cpu"
    with pytest.raises(UserError, match="bfloat16 needs a GPU"):
        open_device(params({"compute.precision": "bfloat16"}).compute)


def test_threads_are_those_of_the_parameters(params: Make) -> None:
    open_device(params({"compute.threads": 2}).compute)
    assert torch.get_num_threads() == 2


def test_autocast_computes_in_bfloat16_and_keeps_float32_outside(params: Make, pictures: Pictures) -> None:
    """The GPU's autocast, on the CPU: a step close to the float32 one, with weights and losses in float32."""
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        trainee = new_trainee(params(), Examples(pictures), Device(CPU, precision, compile=False))  # type: ignore[arg-type]
        torch.nn.init.normal_(list(trainee.net.parameters())[-2], std=0.1)
        batch = Batch(torch.from_numpy(pictures.pixels[:8]).float() / 127.5 - 1, None)
        losses.append(trainee.step(batch, 0)["loss"])
        assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in trainee.net.parameters())
    assert losses[0] != losses[1]
    assert torch.isclose(*losses, rtol=0.05)


def test_set_that_fits_the_device_gives_the_same_batches(pictures: Pictures) -> None:
    class Roomy(Device):
        """A device with memory for a training set, as a GPU has."""

        def free_memory(self) -> int:
            return 10**9

    host, device = (kind(CPU, torch.float32, compile=False) for kind in (Device, Roomy))
    ours, theirs = (itertools.islice(batches(Examples(pictures), 16, 3, 0, d), 4) for d in (host, device))
    assert all(torch.equal(a.x0, b.x0) for a, b in zip(ours, theirs, strict=True))
