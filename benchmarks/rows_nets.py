"""Rows of the table of speeds for nets on a CPU: training, memory, compensation, sampling, a stage's start.

Each function takes its time budget in seconds and returns a row. The compared actions take turns on one thread; medians
of processor time count, so that a busy machine slows all alike. Nets of ours and of others have equal widths, and
speeds count the FLOP of each, which differ a little; memory is compared at equal parameters.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.peers import Sample, diffusers_sampling, diffusers_step, lucidrains
from benchmarks.speed import Mode, new_batch, new_training, preset
from cspipe.config.params import Params
from cspipe.config.workload import Cost, cost_of, costs
from cspipe.runtime.device import open_device
from cspipe.stages.sample import new_sampler

CPU, PLAIN = torch.device("cpu"), Mode(torch.float32)
FEWEST = 3
"""Minimum number of rounds, whatever the time budget."""
POINTS = 12
"""Number of places in a training at which its steps are timed."""
STEPS, BATCH = 100, 16
"""Steps and batch size of sampling."""
SAME_PARAMETERS = 36
"""Width at which diffusers' net has the parameters of ours at 32 (1.40 M, 1.37 M); the CPU's kernels are slow at it."""
STAGES = ("train", "sample", "evaluate")
Actions = dict[str, Callable[[], object]]


def alternate(
    actions: Actions, budget_seconds: float, fewest: int | None = None, uncounted: int = 1
) -> tuple[dict[str, float], int]:
    """Return the median processor time of each action, and the number of rounds after the `uncounted` first ones."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    end, rounds = time.monotonic() + budget_seconds, -uncounted
    while rounds < (fewest or FEWEST) or time.monotonic() < end:
        for name, action in actions.items():
            start = _processor_seconds()
            action()
            times[name].append(_processor_seconds() - start)
        rounds += 1
    return {name: statistics.median(spent[uncounted:]) for name, spent in times.items()}, rounds


def _processor_seconds() -> float:
    """Return the processor time, in seconds, of this process and of the children that it has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + spent.ru_utime + spent.ru_stime


def training_16(budget_seconds: float) -> dict[str, Any]:
    """Time a training step of the demo's net at 16 pixels."""
    return _training(budget_seconds, _demo())


def training_32(budget_seconds: float) -> dict[str, Any]:
    """Time a training step of the demo's net at 32 pixels."""
    return _training(budget_seconds, _demo({"data.size": 32, "train.batch": 16, "train.micro_batch": 16}))


def _training(budget_seconds: float, params: Params) -> dict[str, Any]:
    trainer, batch = new_training(params, PLAIN, CPU), new_batch(params, CPU)
    theirs = Sample(params)
    other, other_step, _ = lucidrains(params, batch.x0, STEPS)
    actions: Actions = {
        "ours": lambda: trainer.step(batch, 0),
        "diffusers": diffusers_step(theirs, PLAIN, batch.x0, params.train.micro_batch),
        "denoising-diffusion-pytorch": other_step,
    }
    spent, rounds = alternate(actions, budget_seconds)
    flops = {name: cost.training for name, cost in _costs(params, theirs, other).items()}
    work = f"training step, {params.data.size} px, {costs(params)[0].parameters / 1e6:.1f} M parameters"
    return _row_by_flop(work, flops, params.train.batch, spent, rounds, 1.2)


def sampling(budget_seconds: float) -> dict[str, Any]:
    """Time a batch of samples of the demo's net by 100 steps of DDIM."""
    params = _demo({"diffusion.steps": 1000})
    trainer, x0 = new_training(params, PLAIN, CPU), new_batch(params, CPU).x0[:BATCH]
    trainer.net.eval().requires_grad_(False)
    config = {"channels": params.data.channels, "size": params.data.size, "task": params.task}
    sampler = new_sampler(params.variants["ddim-100"], trainer.denoise, config, trainer.denoise.net.device)
    theirs = Sample(params).eval()
    other, _, other_sample = lucidrains(params, x0, STEPS)
    actions: Actions = {
        "ours": lambda: sampler(list(range(BATCH))),
        "diffusers": diffusers_sampling(theirs, tuple(x0.shape), STEPS),
        "denoising-diffusion-pytorch": other_sample,
    }
    spent, rounds = alternate(actions, budget_seconds)
    flops = {name: STEPS * cost.forward for name, cost in _costs(params, theirs, other).items()}
    return _row_by_flop(f"sampling, {STEPS} steps, {params.data.size} px", flops, BATCH, spent, rounds, 1.3)


def compensated(budget_seconds: float) -> dict[str, Any]:
    """Compare compensated with plain training, per image, at places spaced evenly over the demo's training."""
    params = _demo()
    trainers = {
        method: new_training(_demo({"train.method": method}), PLAIN, CPU) for method in ("compensated", "plain")
    }
    batch, sums, rounds = new_batch(params, CPU), dict.fromkeys(trainers, 0.0), 0
    for point in range(POINTS):
        seen = int((point + 0.5) / POINTS * params.train.images)
        actions: Actions = {name: partial(trainer.step, batch, seen) for name, trainer in trainers.items()}
        spent, more = alternate(actions, budget_seconds / POINTS)
        sums, rounds = {name: sums[name] + spent[name] for name in sums}, rounds + more
    milliseconds = {name: 1000 * total / POINTS / params.train.batch for name, total in sums.items()}
    return {
        "work": "compensated training, per image, mean of the demo's", "unit": "ms",
        "ours": milliseconds["compensated"], "peer": milliseconds["plain"], "peer_name": "plain", "goal": "<= 1.2",
        "runs": rounds, "ratio": milliseconds["compensated"] / milliseconds["plain"],
    }  # fmt: skip


def memory(budget_seconds: float) -> dict[str, Any]:
    """Compare what training steps add to the peak memory of a process, each net in a process of its own."""
    del budget_seconds  # a peak is the same each time
    found = []
    for whose in ("ours", "diffusers"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(step_bytes, (whose,)) / 1e6)
    return {
        "work": "peak memory of a training step, 32 px, 64 images", "unit": "MB", "ours": found[0], "peer": found[1],
        "peer_name": "diffusers", "ratio": found[0] / found[1], "goal": "<= 0.9", "runs": 1,
    }  # fmt: skip


def step_bytes(whose: str) -> int:
    """Return what two steps of `ours`, or of diffusers, add to the peak memory of a fresh process, in bytes."""
    params = _demo({"data.size": 32, "train.batch": 64, "train.micro_batch": 64})
    batch = new_batch(params, CPU)
    small = _demo({"train.batch": 2, "train.micro_batch": 2})  # memory that libraries take once does not count
    _step(whose, small, new_batch(small, CPU).x0)()
    before = peak_bytes()
    step = _step(whose, params, batch.x0)
    for _ in range(2):
        step()
    return peak_bytes() - before


def peak_bytes() -> int:
    """Return the peak memory of this process, in bytes. On Linux, getrusage includes its parent's size at the start."""
    if sys.platform == "linux":
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on macOS, in bytes


def _step(whose: str, params: Params, x0: torch.Tensor) -> Callable[[], object]:
    if whose == "diffusers":
        return diffusers_step(Sample(params, SAME_PARAMETERS), PLAIN, x0, len(x0))
    trainer, batch = new_training(params, PLAIN, CPU), new_batch(params, CPU)
    return lambda: trainer.step(batch._replace(x0=x0), 0)


def start(budget_seconds: float) -> dict[str, Any]:
    """Compare the time of a stage's imports, the mean of three stages, with that of importing torch alone."""

    def run(code: str) -> Callable[[], object]:
        """Return a function that runs code in a process of its own, in the folder of the project."""
        return lambda: subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[1], check=True)

    actions = {name: run(f"from cspipe.stages.{name} import main") for name in STAGES}
    spent, rounds = alternate({"torch": run("import torch"), **actions}, budget_seconds)
    ours = statistics.mean(spent[name] for name in STAGES)
    return {
        "work": "a stage's start", "unit": "s", "ours": ours, "peer": spent["torch"], "peer_name": "import torch",
        "ratio": ours / spent["torch"], "goal": "<= 1.5", "runs": rounds,
    }  # fmt: skip


def _demo(changes: dict[str, Any] | None = None) -> Params:
    """Return the demo's parameters on one thread, trained without compensation, with changes by dotted key."""
    params = preset("demo", {"compute.threads": 1, "train.method": "plain", **(changes or {})})
    open_device(params.compute)
    return params


def _costs(params: Params, diffusers: nn.Module, other: nn.Module) -> dict[str, Cost]:
    """Return the counted costs for one image of our net and of those of other libraries, by name."""
    image, t = torch.randn(1, params.data.channels, params.data.size, params.data.size), torch.ones(1)
    theirs = {"diffusers": diffusers, "denoising-diffusion-pytorch": other}
    return {"ours": costs(params)[0], **{name: cost_of(net, image, t) for name, net in theirs.items()}}


def _row_by_flop(
    work: str, flops: dict[str, int], images: int, spent: dict[str, float], rounds: int, goal: float
) -> dict[str, Any]:
    """Return the row of a speed beside the best of the others: `flops` are of an image, seconds `spent` of a batch."""
    rates = {name: images * flops[name] / spent[name] / 1e9 for name in spent}
    ours = rates.pop("ours")
    best = max(rates, key=lambda name: rates[name])
    return {
        "work": work, "unit": "GFLOP/s", "ours": ours, "peer": rates[best], "peer_name": best,
        "ratio": ours / rates[best], "goal": f">= {goal:g}", "runs": rounds,
    }  # fmt: skip


ROWS = (training_16, training_32, memory, compensated, sampling, start)
