"""Energy that GPUs take, by the counter of each (NVML, since Volta). The counters of processors are for root alone."""

from __future__ import annotations

from collections.abc import Collection

_started: dict[str, int] = {}
"""The counters, in mJ, when this process began to count, by the GPU's UUID."""


def count(gpus: Collection[str]) -> None:
    """Count what these GPUs (UUIDs, as torch writes them) take from now on; nothing if one has no counter."""
    _started.clear()
    _started.update(_counters(gpus))


def joules() -> float | None:
    """What the counted GPUs have taken together, whoever used them; None if nothing is counted."""
    now = _counters(_started)
    return sum(now[gpu] - before for gpu, before in _started.items()) / 1000 if now else None


def _counters(gpus: Collection[str]) -> dict[str, int]:
    """Of all of them, or empty."""
    if not gpus:
        return {}
    try:
        import pynvml  # where there is a GPU; a machine with a torch of its own may lack it
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handles = {gpu: pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{gpu}") for gpu in gpus}
        return {gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for gpu, handle in handles.items()}
    except pynvml.NVMLError:
        return {}
