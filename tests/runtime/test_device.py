"""Devices: what is refused, and the paths of a GPU run on the CPU where they can be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cspipe.config.params import Params
from cspipe.runtime import device as compute
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.errors import UserError
from cspipe.stages.train import new_trainer
from cspipe.training.stream import Batch, TrainingSet, batches
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


@pytest.mark.parametrize(
    ("threads", "busy", "quota", "told"),
    [
        (2, 0, "max 100000", None),
        (2, 50, "max 100000", "compute.threads is 2, but about 1.0 of this machine's cores are free"),
        (2, 0, "50000 100000", "compute.threads is 2, but about 0.5 of this machine's cores are free"),
        (3, 0, None, "compute.threads is 3, but about 2.0 of this machine's cores are free"),
    ],
)
def test_more_threads_than_free_cores_are_told_and_kept(
    threads: int, busy: int, quota: str | None, told: str | None,
    params: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A machine of two cores; another number of threads would change the numbers."""
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: busy)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(compute, "QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    open_device(params({"compute.threads": threads}).compute)
    assert torch.get_num_threads() == threads
    heard = capsys.readouterr().err
    assert told in heard if told else heard == ""


def test_autocast_computes_in_bfloat16_and_keeps_float32_outside(params: Make, pictures: Pictures) -> None:
    """The GPU's autocast, on the CPU: a step close to the float32 one, with weights and losses in float32."""
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        trainer = new_trainer(params(), TrainingSet(pictures), Device(CPU, precision, compile=False))  # type: ignore[arg-type]
        torch.nn.init.normal_(list(trainer.net.parameters())[-2], std=0.1)
        batch = Batch(torch.from_numpy(pictures.pixels[:8]).float() / 127.5 - 1, None)
        losses.append(trainer.step(batch, 0)["loss"])
        assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in trainer.net.parameters())
    assert losses[0] != losses[1]
    assert torch.isclose(*losses, rtol=0.05)


def test_set_that_fits_the_device_gives_the_same_batches(pictures: Pictures) -> None:
    class Roomy(Device):
        """A device with memory for a training set, as a GPU has."""

        def free_memory(self) -> int:
            return 10**9

    host, device = (kind(CPU, torch.float32, compile=False) for kind in (Device, Roomy))
    ours, theirs = (itertools.islice(batches(TrainingSet(pictures), 16, 3, 0, d), 4) for d in (host, device))
    assert all(torch.equal(a.x0, b.x0) for a, b in zip(ours, theirs, strict=True))


def test_net_of_a_stage_has_channels_last_and_so_has_its_average(params: Make, pictures: Pictures) -> None:
    trainer = new_trainer(params(), TrainingSet(pictures), Device(CPU, torch.float32, compile=False))  # type: ignore[arg-type]
    assert trainer.fit is not None
    nets = (trainer.net, trainer.ema.net, trainer.fit.net)
    weights = [weight for net in nets for weight in net.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
