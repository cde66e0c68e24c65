"""Devices: what is refused, and the paths of a GPU run on the CPU where they can be."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from cspipe.config.params import Params
from cspipe.runtime import device as compute
from cspipe.runtime import gpu_lock, ranks
from cspipe.runtime.device import Device, claim, device_name, open_device
from cspipe.runtime.errors import UserError
from cspipe.stages.train import new_trainer
from cspipe.training.stream import Batch, TrainingSet, batches
from tests.conftest import Images

Make = Callable[..., Params]
CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_told_and_auto_does_without(params: Make) -> None:
    with pytest.raises(UserError, match=r"compute\.device is cuda, but torch finds no GPU"):
        open_device(params({"compute.device": "cuda"}).compute)
    assert open_device(params({"compute.device": "auto"}).compute).device == CPU
    with pytest.raises(UserError, match="bfloat16 needs a GPU"):
        open_device(params({"compute.precision": "bfloat16"}).compute)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="there is no other to be had")
def test_another_instruction_set_is_another_device() -> None:
    code = "import torch; from cspipe.runtime.device import device_name; print(device_name(torch.device('cpu')))"
    env = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert other.startswith("cpu (")
    assert other.strip() != device_name(CPU)


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


def test_autocast_computes_in_bfloat16_and_keeps_float32_outside(params: Make, images: Images) -> None:
    """The GPU's autocast, on the CPU: a step close to the float32 one, with weights and losses in float32."""
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        trainer = new_trainer(params(), TrainingSet(images), Device(CPU, precision, compile=False))  # type: ignore[arg-type]
        torch.nn.init.normal_(list(trainer.net.parameters())[-2], std=0.1)
        batch = Batch(torch.from_numpy(images.pixels[:8]).float() / 127.5 - 1, None)
        losses.append(trainer.step(batch, 0)["loss"])
        assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in trainer.net.parameters())
    assert losses[0] != losses[1]
    assert torch.isclose(*losses, rtol=0.05)


def test_set_that_fits_into_what_two_steps_leave_gives_the_same_batches(images: Images) -> None:
    asked_after = []

    class Roomy(Device):
        """A device with memory for a training set, as a GPU has."""

        def free_memory(self) -> int:
            asked_after.append(len(seen))
            return 10**9

    seen: list[Batch] = []
    for batch in itertools.islice(batches(TrainingSet(images), 16, 3, 0, Roomy(CPU, torch.float32, False)), 6):
        seen.append(batch)
    host = itertools.islice(batches(TrainingSet(images), 16, 3, 0, Device(CPU, torch.float32, compile=False)), 6)
    assert all(torch.equal(a.x0, b.x0) for a, b in zip(seen, host, strict=True))
    assert asked_after == [2]


FAST = ("flash", "mem_efficient", "cudnn")
"""Kernels of attention whose backward passes add in no fixed order, unless torch may refuse operations (warn_only)."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The UUIDs of two GPUs that torch seems to find."""
    names = [f"test-{uuid4()}" for _ in range(2)]
    deterministic = torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(compute, "_on_gpu", lambda settings: True)
    monkeypatch.setattr(compute, "_uuids", lambda: names)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda index: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setenv(compute.GPUS, "")
    yield names
    torch.use_deterministic_algorithms(deterministic)
    for kernel in FAST:
        getattr(torch.backends.cuda, f"enable_{kernel}_sdp")(True)
    for name in names:
        if name in gpu_lock._held:
            gpu_lock._held.pop(name).release()
        gpu_lock.lock_file(name).unlink(missing_ok=True)


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_is_not_deterministic_may_be_fast(deterministic: bool, params: Make, two_gpus: list[str]) -> None:
    assert open_device(params({"compute.deterministic": deterministic}).compute).device.type == "cuda"
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    fast = {kernel: getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")() for kernel in FAST}
    assert fast == dict.fromkeys(FAST, not deterministic)


@pytest.mark.parametrize(("gpus", "count"), [(1, 1), (2, 2), ("all", 2), (3, None)])
def test_ranks_get_a_locked_gpu_each_and_count_the_energy_of_all(
    gpus: int | str, count: int | None, params: Make, two_gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[list[str]] = []
    monkeypatch.setattr("cspipe.runtime.energy.count", counted.append)
    settings = params({"compute.gpus": gpus}).compute
    if count is None:
        with pytest.raises(UserError, match=r"compute\.gpus is 3.* 2 "):
            claim(settings)
        return
    assert claim(settings) == count
    if count == 1:
        assert not gpu_lock._held.keys() & two_gpus, "the process itself takes one"
        return
    assert gpu_lock._held.keys() >= set(two_gpus)
    monkeypatch.setenv(ranks.LAUNCHER, "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert open_device(settings).device.index == 1
    assert counted == [two_gpus]


def test_net_of_a_stage_has_channels_last_and_so_has_its_average(params: Make, images: Images) -> None:
    trainer = new_trainer(params(), TrainingSet(images), Device(CPU, torch.float32, compile=False))  # type: ignore[arg-type]
    assert trainer.fit is not None
    nets = (trainer.net, trainer.ema.net, trainer.fit.net)
    weights = [weight for net in nets for weight in net.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
