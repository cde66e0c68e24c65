"""Profile one training step: where its time goes."""

from __future__ import annotations

from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import WARM_UP, Clock, Mode, training_step
from cspipe.config.params import Params

LARGEST = 3


def step_costs(params: Params, mode: Mode, clock: Clock) -> dict[str, Any]:
    """Return the operations that took most of a step, with their shares of its time on the device."""
    step = training_step(params, mode, clock.device)
    for _ in range(WARM_UP):
        step()
    clock.wait()
    on_gpu = clock.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        step()
        clock.wait()
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    spent = {event.key: float(getattr(event, time_of)) for event in profiler.key_averages()}
    total = sum(spent.values())
    largest = sorted(spent, key=lambda key: -spent[key])[:LARGEST]
    return {"milliseconds": total / 1000, "largest": {key: spent[key] / total for key in largest}}
