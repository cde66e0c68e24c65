"""The promise of CONTRIBUTING.md: a source, a sampler, a correction, a main net, a module's net are one new file each.

Each test puts a file into a copy of the package and names it in a params file; nothing else of the package changes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from tests.conftest import ROOT, Tree, change

SOURCE = '''
"""Images of one grey each, made as asked for."""

import numpy as np

from cspipe.ingest.source import PreparedImage, divide

READS_PATH = OFFICIAL_SPLIT = PAIRED = False


class Greys:
    facts = {"licence": "none needed", "resize": "none"}
    stamp = ""

    def __init__(self, data):
        self.data, self.total = data, data.limit

    def stream(self, workers, start=0):
        shape = (self.data.channels, self.data.size, self.data.size)
        for split, name in divide(map(str, range(self.total)), self.data.test_share, None)[start:]:
            yield PreparedImage(split, np.full(shape, int(name) % 256, np.uint8))


open_source = Greys
'''
SAMPLER = '''
"""Two-step Adams-Bashforth on the noise (PNDM's order 2); the first step is DDIM's."""

from cspipe.diffusion.process import eps_from_x0, per_image

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = True, False


def step(x_t, x0_hat, t, s, state):
    eps_hat = eps_from_x0(x_t, x0_hat, t, state.schedule)
    mean = 1.5 * eps_hat - 0.5 * state.history[0] if state.history else eps_hat
    state.history = [eps_hat]
    signal, noise = state.schedule.sqrt_alpha_bar, state.schedule.sqrt_one_minus_alpha_bar
    x0 = (x_t - per_image(noise[t]) * mean) / per_image(signal[t])
    return per_image(signal[s]) * x0 + per_image(noise[s]) * mean
'''
CORRECTION = '''
"""Epsilon scaling (Ning et al. 2024) by a constant."""

from pydantic import Field

from cspipe.sampling.correction import CorrectionSettings
from cspipe.diffusion.process import eps_from_x0, per_image
from cspipe.runtime.settings import Number


class Settings(CorrectionSettings):
    divisor: Number = Field(gt=0, description="what the noise is divided by")

    def build(self, denoise, schedule, C):
        assert C is None

        def scaled(x_t, t):
            eps = eps_from_x0(x_t, denoise(x_t, t), t, schedule) / self.divisor
            return (x_t - per_image(schedule.sqrt_one_minus_alpha_bar[t]) * eps) / per_image(schedule.sqrt_alpha_bar[t])

        return scaled, None
'''
NET = '''
"""One convolution that does not look at t, starting at 0."""

from torch import nn


class Line(nn.Conv2d):
    def forward(self, x0_hat, t):
        return super().forward(x0_hat)


def build(in_channels, out_channels, size, width):
    net = Line(in_channels, out_channels, 3, padding=1)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return net
'''

METHOD = '''
"""Forward states half a step too noisy: the plain pair at s, shown as t."""

from cspipe.diffusion.training_pair import plain_pair
from cspipe.training.reverse_step import fading as share

USES_COMPENSATOR = DRAWS_NOISE = False


def pair(step):
    return plain_pair(step.prediction, step.x0, step.eps, step.s, step.schedule)._replace(t=step.t)
'''
BACKBONE = '''
"""Two convolutions, between which t is added; the second starts at 0."""

from pydantic import Field

from torch import nn

from cspipe.nets.backbone import BackboneSettings
from cspipe.nets.blocks import zeroed
from cspipe.runtime.settings import Count


class Settings(BackboneSettings):
    width: Count = Field(description="channels between the convolutions")

    def check_size(self, size):
        if size % 2:
            raise ValueError(f"data.size {size} must be even")

    def build(self, in_channels, out_channels, size):
        class Pair(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.first = nn.Conv2d(in_channels, width, 3, padding=1)
                self.time = nn.Linear(1, width)
                self.second = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))

            def forward(self, x, t):
                return self.second((self.first(x) + self.time(t[:, None] / 1000)[:, :, None, None]).relu())

        return Pair(self.width)
'''


def python(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with the copy of the package that lies there."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done


def stage(folder: Path, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", f"cspipe.stages.{name}", *arguments, check=check)


def use(folder: Path, params: Tree) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def samples(folder: Path, params: Tree) -> NDArray[np.uint8]:
    """The samples of the variant ddim-100 of these parameters."""
    use(folder, params)
    stage(folder, "sample", "ddim-100")
    return np.load(folder / "samples/ddim-100/samples.npy")


@pytest.fixture(scope="module")
def trained(small: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, as shipped, beside what it has prepared and trained."""
    folder = tmp_path_factory.mktemp("trained") / "work"
    shutil.copytree(ROOT / "cspipe", folder / "cspipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    use(folder, change(small, {"train.method": "plain"}))
    stage(folder, "prepare")
    stage(folder, "train")
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A copy of that, to put a file into."""
    return shutil.copytree(trained, tmp_path / "work")


def test_source(work: Path, small: Tree) -> None:
    use(work, change(small, {"data.source": "greys"}))
    assert "'avatars'" in stage(work, "prepare", check=False).stderr
    (work / "cspipe/sources/greys.py").write_text(SOURCE)
    stage(work, "prepare")
    assert json.loads((work / "data/prepared/index.json").read_text())["source"] == "greys"


@pytest.mark.slow
def test_sampler(work: Path, small: Tree) -> None:
    (work / "cspipe/samplers/ab2.py").write_text(SAMPLER)
    chosen = {(name, steps): {"variants.ddim-100.sampler": name, "variants.ddim-100.steps": steps}
              for name in ("ab2", "ddim") for steps in (1, 4)}  # fmt: skip
    made = {key: samples(work, change(small, changes)) for key, changes in chosen.items()}
    difference = {steps: np.abs(made["ab2", steps].astype(int) - made["ddim", steps]).max() for steps in (1, 4)}
    assert difference[1] <= 1
    assert difference[4] > 3


def test_correction(work: Path, small: Tree) -> None:
    """It does not use C, so the variant waits for the main net alone, and models/compensation is not there."""
    (work / "cspipe/corrections/scaling.py").write_text(CORRECTION)

    def corrected(divisor: object, **more: object) -> Tree:
        return change(small, {"variants.ddim-100.correction": {"name": "scaling", "divisor": divisor, **more}})

    plain = samples(work, small).astype(int)
    assert np.abs(samples(work, corrected(1.0)) - plain).max() <= 1
    assert np.abs(samples(work, corrected(1.2)) - plain).max() > 3
    assert json.loads((work / "samples/ddim-100/samples.json").read_text())["correction"] == {
        "name": "scaling",
        "divisor": 1.2,
    }


def test_compensator(work: Path, small: Tree) -> None:
    (work / "cspipe/compensators/line.py").write_text(NET)
    use(work, change(small, {"compensation.net": "line"}))
    stage(work, "compensate")
    assert json.loads((work / "models/compensation/config.json").read_text())["parameters"] == 3 * 3 * 9 + 3
    stage(work, "sample", "cs-10")
    assert np.load(work / "samples/cs-10/samples.npy").shape == (16, 3, 8, 8)


def test_training_method(work: Path, small: Tree) -> None:
    """It does not use C, so none is fit: nothing is said of its size."""
    (work / "cspipe/methods/late.py").write_text(METHOD)
    use(work, change(small, {"train.method": "late", "train.compensation.fade": 0.0}))
    before = (work / "models/main/model.safetensors").read_bytes()
    stage(work, "train")
    assert (work / "models/main/model.safetensors").read_bytes() != before
    assert (work / "curves/train-norm.tsv").read_text().splitlines() == ["t\tnorm_ratio\terror"]
    shares = (work / "curves/train/plots/metrics/share.tsv").read_text().split()
    assert float(shares[-1]) > 0.8  # of 10 timesteps no step ends at the last


@pytest.mark.slow
def test_main_net(work: Path, small: Tree) -> None:
    (work / "cspipe/backbones/two_layers.py").write_text(BACKBONE)
    model = {"name": "two_layers", "width": 12}
    chosen = change(small, {"model": model, "train.method": "plain"})
    use(work, chosen)
    stage(work, "train")
    config = json.loads((work / "models/main/config.json").read_text())
    assert config["model"] == model
    assert config["parameters"] == (3 * 9 + 1) * 12 + 2 * 12 + (12 * 9 + 1) * 3
    assert len(np.unique(samples(work, chosen))) > 10
