"""The row of the table of speeds for a training that two processes share, as several GPUs would."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from benchmarks.speed import new_batch, noise, preset
from cspipe.config.params import Params
from cspipe.runtime.device import open_device
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.ranks import LAUNCHER, rank, world
from cspipe.stages.train import new_trainer
from cspipe.training.stream import TrainingSet

UNCOUNTED, STEPS, FEWEST = 5, 40, 3
"""Number of warm-up steps and of timed steps, and minimum number of rounds, whatever the time budget."""


def sharing(budget_seconds: float) -> dict[str, Any]:
    """Compare a training step of the demo's batch in one rank and in two, which share it, each of one thread.

    The time is by the clock, in two ranks half at best. Of no use on a busy machine, or with fewer than two cores.
    """
    spent: dict[int, list[float]] = {1: [], 2: []}
    end = time.monotonic() + budget_seconds
    while len(spent[1]) < FEWEST or time.monotonic() < end:
        for count, seconds in spent.items():
            seconds.append(_in_ranks(count))
    batch = _demo(1).train.batch
    alone, shared = (batch / statistics.median(seconds) for seconds in spent.values())
    return {
        "work": "training step shared by two processes, 16 px", "unit": "images/s", "ours": shared, "peer": 2 * alone,
        "peer_name": "twice one", "ratio": shared / (2 * alone), "goal": ">= 0.9", "runs": len(spent[1]),
    }  # fmt: skip


def _demo(count: int) -> Params:
    """Return the demo's parameters for `count` ranks of one thread, trained without compensation."""
    return preset("demo", {"compute.gpus": count, "compute.threads": 1, "train.method": "plain"})


def _in_ranks(count: int) -> float:
    """Return the seconds of a step in `count` ranks, started as a stage starts them."""
    config = LaunchConfig(
        1, 1, count, run_id=uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
        max_restarts=0,
    )  # fmt: skip
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        seconds: dict[int, float] = elastic_launch(config, step_seconds)(count)
    finally:
        del os.environ[LAUNCHER]
    return seconds[0]


def step_seconds(count: int) -> float:
    """Run training steps in this rank; return their median time, in seconds."""
    params = _demo(count)
    start_ranks("train", params.compute)
    device = open_device(params.compute)
    trainer = new_trainer(params, TrainingSet(noise(params)), device)
    whole, spent = new_batch(params, device.device), []
    batch = whole._replace(x0=whole.x0[rank() :: world()])
    for step in range(UNCOUNTED + STEPS):
        start = time.perf_counter()
        trainer.step(batch, step * params.train.batch)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[UNCOUNTED:])


ROWS: tuple[Callable[[float], dict[str, Any]], ...] = (sharing,)
