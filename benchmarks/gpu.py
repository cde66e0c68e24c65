"""Everything that a GPU has to show, in one command: `python -m benchmarks.gpu --minutes 25 --out DIR`.

Needs torch 2.7 or newer, the package and its group dev (the tests, diffusers); no network. The parts stand in order of
worth: the tests of tests/gpu, speeds, the costs of one step, and two trainings of CIFAR-10's shape, plain and
compensated, of the real images where --cifar names cifar-10-python.tar.gz. Each result is in DIR/results.json as soon
as it is there; the same command goes on with what is missing. DIR/results.md is the page made of it. `--smallest` tries
it all on the CPU: numbers of no use.
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
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from benchmarks.page import write_page
from benchmarks.peers import diffusers_training
from benchmarks.speed import MODES, Clock, Mode, matrix_flops, preset, sampling_speed, training_speed
from benchmarks.step_costs import step_costs
from benchmarks.trainings import Trainings
from cspipe.config.params import Params
from cspipe.runtime.files import whole_file

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"tests": 0.15, "speed": 0.4, "step": 0.05, "training": 0.4}
"""Of the time, for each part; what one leaves is the next one's."""
PRESETS = ["cifar10", "celeba64", "ffhq256"]
"""Nets of 57, 295 and 553 M parameters, with the batches of the presets."""
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


@dataclass
class Results:
    """What was measured, by part and name; in a file at once."""

    file: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def once(self, part: str, name: str, measure: Callable[[], Any]) -> None:
        """Measure what is not there yet. What fails is a result too."""
        if name in self.found.setdefault(part, {}):
            return
        start = time.monotonic()
        torch.compiler.reset()  # else nets beyond dynamo's limit of graphs are not compiled, without a word here
        with suppress(RuntimeError):  # of a GPU that is lost to this process
            torch.cuda.empty_cache()  # stages have processes of their own
        try:
            value = measure()
        except Exception as error:  # what fails stops no other
            value = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"}
        self.found[part][name] = value
        with whole_file(self.file) as beside:
            beside.write_text(json.dumps(self.found, indent=1) + "\n")
        print(f"{part}, {name} ({time.monotonic() - start:.0f} s): {json.dumps(value)}", flush=True)


def run_tests(seconds: float) -> dict[str, Any]:
    """The tests marked `gpu`, slow ones too: pytest's status, None if it took too long, and last lines."""
    command = [sys.executable, "-m", "pytest", "-v", "-o", "addopts=", "-p", "no:cacheprovider", "tests/gpu"]
    with TemporaryFile("w+") as said:
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, timeout=seconds, check=False
            ).returncode
        said.seek(0)
        return {"status": status, "last_lines": said.read().splitlines()[-60:]}


def speed_cases(smallest: bool) -> Iterator[tuple[str, Params, Mode]]:
    """What is timed, the most telling first."""
    for mode_name, mode in list(MODES.items())[: 1 if smallest else None]:
        for preset_name in PRESETS[: 1 if smallest else None]:
            for method, changes in METHODS.items():
                params = preset(preset_name, {**changes, **(TINY if smallest else {})})
                yield f"training, {preset_name}, {method}, {mode_name}", params, mode


def speed(results: Results, clock: Clock, smallest: bool, deadline: float) -> None:
    """Matrix products, training steps, sampling; until the deadline."""
    side = 256 if smallest else 8192
    for name, precision in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        results.once("speed", f"matrices, {name}", partial(matrix_flops, clock, precision, side))
    for name, params, mode in speed_cases(smallest):
        if time.monotonic() < deadline:
            best = results.found["speed"][f"matrices, {str(mode.precision).removeprefix('torch.')}"]
            measure = diffusers_training if "diffusers" in name else training_speed
            results.once("speed", name, partial(measure, params, mode, clock, best))
    params = preset("cifar10", TINY if smallest else {})
    for name, mode in list(MODES.items())[: 1 if smallest else None]:
        if time.monotonic() < deadline:
            case = f"sampling, cifar10, {name}"
            results.once("speed", case, partial(sampling_speed, params, "ddim-100", mode, clock))


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers are from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}


def main() -> None:
    """Measure part by part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=25.0, help="for all of it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cifar", type=Path, help="cifar-10-python.tar.gz; images of noise and shapes if not given")
    parser.add_argument("--smallest", action="store_true", help="a try on the CPU")
    chosen = parser.parse_args()
    if not (chosen.smallest or torch.cuda.is_available()):
        raise SystemExit("torch finds no GPU here; --smallest tries the command on the CPU")
    if chosen.cifar and not chosen.cifar.is_file():
        raise SystemExit(f"{chosen.cifar}: no file; correct --cifar, or leave it out")
    device = torch.device("cpu" if chosen.smallest else "cuda")
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # as with compute.deterministic: false, which the presets have
    chosen.out.mkdir(parents=True, exist_ok=True)
    file, start = chosen.out / "results.json", time.monotonic()
    results = Results(file, json.loads(file.read_text()) if file.exists() else {})
    results.once("machine", "facts", lambda: machine(device))

    def until(part: str) -> float:
        """When a part should end, with what those before have left."""
        shares = list(SHARES)
        return start + 60 * chosen.minutes * sum(SHARES[name] for name in shares[: shares.index(part) + 1])

    if not chosen.smallest:
        results.once("tests", "tests/gpu", lambda: run_tests(until("tests") - time.monotonic()))
    clock = Clock(device, least=0.01 if chosen.smallest else 0.5)
    speed(results, clock, chosen.smallest, until("speed"))
    params, mode = preset("cifar10", TINY if chosen.smallest else {}), MODES["bfloat16"]
    results.once("step", "cifar10, compensated, bfloat16", partial(step_costs, params, mode, clock))
    trainings = Trainings(chosen.out.resolve(), chosen.cifar, device, chosen.smallest)
    trainings.run(results.once, until("training"))
    write_page(results.found, chosen.out / "results.md")


if __name__ == "__main__":
    main()
