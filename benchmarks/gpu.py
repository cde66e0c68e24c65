"""Measure everything that needs a GPU, in one command: `python -m benchmarks.gpu --minutes 25 --out DIR`.

Needs torch 2.7 or newer, the package and its group dev (the tests, diffusers); no network. The parts, most important
first: the tests of tests/gpu, speeds, the costs of one step, two trainings in the shape of CIFAR-10, plain and
compensated, on the real images where --cifar names cifar-10-python.tar.gz, and the slow tests. Each result is written
at once to DIR/results.json and to the page DIR/results.md; the same command resumes with results that are missing or
have failed. `--smallest` tries it all on the CPU: numbers of no use.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.page import write_page
from benchmarks.peers import diffusers_training
from benchmarks.speed import MODES, Clock, matrix_flops, preset, sampling_speed, training_speed
from benchmarks.step_costs import step_costs
from benchmarks.trainings import Trainings
from cspipe.runtime.files import whole_file

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"tests": 0.15, "speed": 0.4, "step": 0.05, "training": 0.3, "slow tests": 0.1}
"""Share of the time for each part; the next part can use what a part leaves."""
NEEDED = ("diffusers", "dvclive", "pytest", "torch_fidelity")
"""Packages to check for at the start, as they are imported only by child processes, or after minutes."""
PRESETS = ["cifar10", "celeba64", "ffhq256"]
"""Presets of nets of 57, 295 and 553 M parameters, with their batches: the last two in bfloat16 and compiled."""
IMAGES = 256
"""Batch size of sampling, in images."""
METHODS: dict[str, dict[str, Any]] = {
    "plain": {"train.method": "plain"},
    "compensated": {"train.compensation.fade": 0.0},
    "plain, diffusers": {},
}
TINY = {
    "data.size": 8, "model.channels": 16, "model.blocks": 1, "model.multipliers": [1, 2], "model.attention": [4],
    "model.head_channels": 16, "train.batch": 4, "train.micro_batch": 4, "compensation.batch": 4,
    "compensation.channels": 16, "sample.batch": 4, "variants.ddim-100.steps": 2,
}  # fmt: skip


Case = Callable[[], dict[str, Any]]


@dataclass
class Results:
    """Measurements by part and name, each written to a file at once."""

    file: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def once(self, part: str, name: str, measure: Callable[[], Any]) -> None:
        """Measure and store a result that is missing or has failed. A failure is stored as a result too."""
        found = self.found.setdefault(part, {}).get(name)
        if found is not None and not (isinstance(found, dict) and "failed" in found):
            return
        start = time.monotonic()
        torch.compiler.reset()  # else nets beyond dynamo's limit of graphs are silently not compiled
        with suppress(RuntimeError):  # raised if this process has lost the GPU
            torch.cuda.empty_cache()  # other processes, of stages, need the memory
        try:
            value = measure()
        except Exception as error:  # a failure stops no other measurement
            value = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"}
        self.found[part][name] = value
        with whole_file(self.file) as beside:
            beside.write_text(json.dumps(self.found, indent=1) + "\n")
        write_page(self.found, self.file.with_suffix(".md"))
        print(f"{part}, {name} ({time.monotonic() - start:.0f} s): {json.dumps(value)}", flush=True)


def run_tests(marks: str, log: Path, seconds: float) -> dict[str, Any]:
    """Run the tests of tests/gpu with these marks; return pytest's status and last lines. `log` gets all its output."""
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-o", "addopts=", "-p", "no:cacheprovider"]
    result: dict[str, Any] = {}
    with log.open("w") as said:
        try:
            done = subprocess.run(
                [*command, "-m", marks, "tests/gpu"], cwd=ROOT, stdout=said, stderr=said, timeout=seconds, check=False
            )
            result["status"] = done.returncode
        except subprocess.TimeoutExpired:
            result["failed"] = f"not done in {seconds:.0f} s"
    return {**result, "last_lines": log.read_text().splitlines()[-80:]}


def speed_cases(clock: Clock, matrices: dict[torch.dtype, float], smallest: bool) -> Iterator[tuple[str, Case]]:
    """Yield names and cases to time, the most informative first: CIFAR-10's net in all modes, larger nets in two."""
    tiny = TINY if smallest else {}
    for preset_name in PRESETS[: 1 if smallest else None]:
        modes = [name for name in MODES if preset_name == PRESETS[0] or name in ("bfloat16", "bfloat16 compiled")]
        for mode_name in modes[: 1 if smallest else None]:
            mode = MODES[mode_name]
            for method, changes in METHODS.items():
                params = preset(preset_name, {**changes, **tiny})
                measure = diffusers_training if method.endswith("diffusers") else training_speed
                case = partial(measure, params, mode, clock, matrices[mode.precision])
                yield f"training, {preset_name}, {method}, {mode_name}", case
            if preset_name == PRESETS[0]:
                params = preset(preset_name, {"sample.batch": IMAGES, **tiny})
                case = partial(sampling_speed, params, "ddim-100", mode, clock)
                yield f"sampling, {preset_name}, {mode_name}", case


def speed(results: Results, clock: Clock, smallest: bool, deadline: float) -> None:
    """Measure matrix products, training steps and sampling, until the deadline."""
    side, matrices = 256 if smallest else 8192, {}
    for precision in (torch.bfloat16, torch.float32):
        name = f"matrices, {str(precision).removeprefix('torch.')}"
        results.once("speed", name, partial(matrix_flops, clock, precision, side))
        matrices[precision] = results.found["speed"][name]
    for name, case in speed_cases(clock, matrices, smallest):
        if time.monotonic() < deadline:
            results.once("speed", name, case)


def machine(device: torch.device) -> dict[str, Any]:
    """Return the device, versions and cores that the numbers are from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}


def main() -> None:
    """Measure part by part, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0, help="for all of it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cifar", type=Path, help="cifar-10-python.tar.gz; images of noise and shapes if not given")
    parser.add_argument("--smallest", action="store_true", help="a try on the CPU")
    chosen = parser.parse_args()
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise SystemExit(f"packages are missing: {', '.join(missing)}; install them beside torch")
    if not (chosen.smallest or torch.cuda.is_available()):
        raise SystemExit("torch finds no GPU here; --smallest tries the command on the CPU")
    if chosen.cifar and not chosen.cifar.is_file():
        raise SystemExit(f"{chosen.cifar}: no file; correct --cifar, or leave it out")
    device = torch.device("cpu" if chosen.smallest else "cuda")
    torch.set_num_threads(1 if chosen.smallest else min(8, os.cpu_count() or 1))  # nets are made on the CPU
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # as with compute.deterministic: false, which the presets have
    chosen.out.mkdir(parents=True, exist_ok=True)
    file, start = chosen.out / "results.json", time.monotonic()
    results = Results(file, json.loads(file.read_text()) if file.exists() else {})
    results.once("machine", "facts", lambda: machine(device))

    def until(part: str) -> float:
        """Return the time at which a part should end; it may use what earlier parts have left."""
        shares = list(SHARES)
        share = sum(SHARES[name] for name in shares[: shares.index(part) + 1])
        return start + 60 * float(chosen.minutes) * share

    def tests(name: str, marks: str) -> None:
        """Run the tests with these marks, on a GPU."""
        left, log = until(name) - time.monotonic(), chosen.out / f"{name}.log"
        if not chosen.smallest:
            results.once("tests", name, partial(run_tests, marks, log, left))

    tests("tests", "not slow")
    clock = Clock(device, least=0.01 if chosen.smallest else 0.5)
    speed(results, clock, chosen.smallest, until("speed"))
    params, mode = preset("cifar10", TINY if chosen.smallest else {}), MODES["bfloat16"]
    results.once("step", "cifar10, compensated, bfloat16", partial(step_costs, params, mode, clock))
    trainings = Trainings(chosen.out.resolve(), chosen.cifar, device, chosen.smallest)
    trainings.run(results.once, until("training"))
    tests("slow tests", "slow")


if __name__ == "__main__":
    main()
