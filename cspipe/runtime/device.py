"""The device that nets run on: choice, settings and limits. All differences between devices are handled here."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import torch
from pydantic import Field, StrictBool
from torch import Tensor, nn

from cspipe.runtime import energy, gpu_lock, ranks
from cspipe.runtime.errors import UserError
from cspipe.runtime.settings import Count, Section

NetT = TypeVar("NetT", bound=nn.Module)
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""cgroup file with a container's CPU limit: "max" or microseconds of CPU time, then the period in microseconds."""
GPUS = "CSPIPE_GPUS"
"""Environment variable with the indices of the GPUs that a launcher has locked for its ranks."""
SECONDS_TO_LOOK = 0.25
MMAP_THRESHOLD, TRIM_THRESHOLD = (-3, 2**25), (-1, 2**31 - 1)
"""(parameter, value) for glibc's mallopt, numbered as in malloc.h: the size from which it maps memory for each request,
and the free memory that it keeps. The values are the largest that every version accepts."""


class ComputeSettings(Section):
    """The section `compute` of params.yaml: devices, precision and threads."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="auto takes the GPU when there is one")
    precision: Literal["float32", "bfloat16"] = Field(description="bfloat16: autocast of the nets, on CUDA only")
    compile: StrictBool = Field(description="torch.compile the nets (needs a C++ compiler or Triton)")
    threads: Count = Field(description="CPU threads of torch; part of the result: other counts sum in another order")
    deterministic: StrictBool = Field(
        description="on CUDA kernels that add in a fixed order; false: the fastest ones, and what is run again or "
        "resumed differs in the last digits of its weights, so that nothing can be compared bit for bit"
    )
    gpus: Count | Literal["all"] = Field(description="GPUs that share a batch; on the CPU processes, of which all is 1")
    nodes: Count = Field(description="machines with so many GPUs each; the stage's command runs on each")

    def decisive(self) -> dict[str, Any]:
        """Settings that decide a result. The number of GPUs changes only the order of sums, and may change midway."""
        return self.model_dump(exclude={"gpus", "nodes"})


@dataclass(frozen=True)
class Device:
    """A torch device with the precision of the nets on it."""

    device: torch.device
    precision: torch.dtype
    compile: bool

    @property
    def name(self) -> str:
        """Name of the device, from `device_name`."""
        return device_name(self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which nets compute in `precision`; weights and everything outside stay float32."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def place(self, net: NetT) -> NetT:
        """Move a net to the device, with weights, and so features, channels-last, as CPUs and tensor cores use them."""
        return net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stubs know a format alone

    def upload(self, images: Tensor) -> Tensor:
        """Copy a host tensor to the device; on CUDA asynchronously, through pinned memory."""
        if self.device.type == "cuda":
            return images.pin_memory().to(self.device, non_blocking=True)
        return images.to(self.device)

    def free_memory(self) -> int:
        """Bytes that a training set may take on the device: half of the free memory, as the rest may be needed later.

        0 on the CPU, where memory-mapped files serve as well.
        """
        return torch.cuda.mem_get_info(self.device)[0] // 2 if self.device.type == "cuda" else 0

    def generator(self, seed: int) -> torch.Generator:
        """A seeded source of random numbers on the device."""
        return torch.Generator(self.device).manual_seed(seed)


def device_name(device: torch.device) -> str:
    """Name of the GPU, or "cpu" with the instruction set of torch's kernels, which decides the last digits of results.

    It is written to samples.json and metrics, and therefore omits the processor's model.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def open_device(compute: ComputeSettings) -> Device:
    """Set threads and determinism, and choose the device. Raises UserError if it is not available.

    Of several GPUs, the first that no other stage on this machine uses is taken; if there is none, it waits for one. A
    rank takes its own of the GPUs that `claim` has locked.

    More threads than free cores make torch on the CPU many times slower, and another count sums in another order:
    the number is a parameter, and is set only here. A warning is printed if it exceeds the free cores.
    """
    torch.set_num_threads(compute.threads)
    _keep_freed_memory()
    device = _free_gpu() if _on_gpu(compute) else torch.device("cpu")
    if device.type == "cpu" and compute.precision == "bfloat16":
        raise UserError("params.yaml: compute.precision bfloat16 needs a GPU; set float32 to run on the CPU")
    if device.type == "cuda":
        # Torch only warns where a kernel is not deterministic, as in attention's fast backward passes: turn those off.
        torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
        for fast in ("flash", "mem_efficient", "cudnn"):
            getattr(torch.backends.cuda, f"enable_{fast}_sdp")(not compute.deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        _tell_crowd(compute.threads)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not compute.deterministic
    torch.set_float32_matmul_precision("high")
    return Device(device, getattr(torch, compute.precision), compute.compile)


def compute_exactly() -> None:
    """Compute float32 products with all digits and bfloat16 sums in float32, so that a GPU's scores are those of a CPU.

    With TensorFloat-32, which `open_device` allows, scores differ in the fourth digit.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def claim(compute: ComputeSettings) -> int:
    """Number of processes that compute.gpus asks for on this machine; locks their GPUs if the stage uses several.

    Raises UserError if there are fewer GPUs.
    """
    if not _on_gpu(compute):
        return 1 if compute.gpus == "all" else compute.gpus
    found = torch.cuda.device_count()
    count = found if compute.gpus == "all" else compute.gpus
    if count > found:
        raise UserError(f"params.yaml: compute.gpus is {count}, but torch finds {found} here; set it to {found} or all")
    if count > 1 or compute.nodes > 1:
        os.environ[GPUS] = ",".join(map(str, gpu_lock.take(_uuids(), count)))
    return count


def _on_gpu(compute: ComputeSettings) -> bool:
    """Whether the work runs on a GPU. Raises UserError if params.yaml demands one and there is none."""
    found = torch.cuda.is_available()
    if compute.device == "cuda" and not found:
        raise UserError("params.yaml: compute.device is cuda, but torch finds no GPU here; set it to auto or cpu")
    return found and compute.device != "cpu"


def _uuids() -> list[str]:
    """UUIDs of the visible GPUs, by index."""
    return [str(torch.cuda.get_device_properties(gpu).uuid) for gpu in range(torch.cuda.device_count())]


def _keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of mapping and zeroing new pages for each tensor of over 128 kB.

    A training step of the demo takes 12 % less processor time, with the same bits. Other systems have no such switch.
    """
    with suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        for name, value in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            libc.mallopt(name, value)


def _tell_crowd(threads: int) -> None:
    """Warn if fewer cores than `threads` are free: threads then wait for each other at every step of the net."""
    if threads == 1 or (free := free_cores()) > threads - 0.5:
        return
    print(
        f"params.yaml: compute.threads is {threads}, but about {free:.1f} of this machine's cores are free: this may "
        "be several times slower. Fewer threads would be faster now, but change last digits of the results.",
        file=sys.stderr,
        flush=True,
    )


def free_cores() -> float:
    """Number of cores that other processes leave idle, at most those that this process may use; measured for 0.25 s."""
    idle = (psutil.cpu_count() or 1) * (1 - psutil.cpu_percent(SECONDS_TO_LOOK) / 100)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else idle  # macOS lacks the function
    return min(idle, allowed, _quota())


def _quota() -> float:
    """Number of cores that the container may use; infinite without a limit."""
    try:
        limit, period = QUOTA.read_text().split()
        return float(limit) / float(period)  # "max" is no number
    except (OSError, ValueError):
        return float("inf")


def _free_gpu() -> torch.device:
    """Lock a free visible GPU for the life of this process, and make it torch's default; a rank's is locked already.

    Counting the energy of all GPUs of the stage on this machine starts here.
    """
    uuids = _uuids()
    locked = [int(gpu) for gpu in os.environ[GPUS].split(",")] if ranks.inside() else gpu_lock.take(uuids)
    energy.count([uuids[gpu] for gpu in locked])
    index = locked[ranks.local_rank()]
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
