"""Energy used by GPUs, from NVML's counters (since Volta). CPUs are not counted: only root can read their counters."""

from __future__ import annotations

from collections.abc import Collection

_started: dict[str, int] = {}
"""Counter values in mJ when this process began to count, by the GPU's UUID."""


def count(gpus: Collection[str]) -> None:
    """Start to count the energy of these GPUs (UUIDs, as torch writes them); count nothing if one has no counter."""
    _started.clear()
    _started.update(_counters(gpus))


def joules() -> float | None:
    """Energy in J that the counted GPUs have used together, for any process; None if nothing is counted."""
    now = _counters(_started)
    return sum(now[gpu] - before for gpu, before in _started.items()) / 1000 if now else None


def _counters(gpus: Collection[str]) -> dict[str, int]:
    """Energy counters of the GPUs in mJ, by UUID; empty if one of them is not available."""
    if not gpus:
        return {}
    try:
        import pynvml  # needed only with a GPU; may be missing on a machine with its own torch
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        handles = {gpu: pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{gpu}") for gpu in gpus}
        return {gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for gpu, handle in handles.items()}
    except pynvml.NVMLError:
        return {}
