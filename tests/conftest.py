"""Parameters of a pipeline that runs in seconds, and images to feed it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from numpy.typing import NDArray

from cspipe.config.params import Params
from cspipe.config.params_file import parse_params

if TYPE_CHECKING:
    from tests.s3_server import S3

# The same examples each time, and no limit per example: the cores are shared.
settings.register_profile("cspipe", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("cspipe")

pytest_plugins = ["tests.fixtures"]

# Otherwise every DVC command in a repository without `analytics = false` starts a process that reports it.
os.environ["DVC_NO_ANALYTICS"] = "1"

ROOT = Path(__file__).parent.parent
Tree = dict[str, Any]
LONGEST = (
    "tests/stages/test_dvc.py",  # first: it makes the clone that other files wait for
    "tests/flows",
    "tests/cli",
    "tests/stages",
    "tests/test_scripts.py",
    "tests/test_one_file.py",
    "tests/training",
    "tests/config",
)
SMALL = {
    "compute.threads": 1,
    "data.size": 8,
    "data.limit": 80,
    "data.held_out": 0.2,
    "model.channels": 16,
    "model.multipliers": [1, 2],
    "model.attention": [4],
    "model.head_channels": 16,
    "diffusion.steps": 10,
    "train.images": 48,
    "train.batch": 8,
    "train.micro_batch": 8,
    "train.warmup": 16,
    "train.ema_half_life": 16,
    "train.checkpoint_every": 16,
    "train.log_every": 16,
    "train.grid_every": 24,
    "compensation.batch": 8,
    "sample.images": 16,
    "sample.batch": 8,
    "variants.ddim-100.steps": 10,
    "variants.cs-100.steps": 10,
    "variants.cs-10.steps": 5,
    "evaluate.images": 16,
    "evaluate.batch": 8,
    "evaluate.kid_subsets": 4,
    "evaluate.kid_subset_size": 8,
    "evaluate.neighbours": 4,
}


LEVELS = {"channels": 64, "blocks": 1, "multipliers": [1, 2], "attention": [4], "dropout": 0.1}
MODELS: dict[str, Tree] = {
    "adm": {"name": "adm", **LEVELS, "head_channels": 32},
    "ddpm": {"name": "ddpm", **LEVELS},
    "ncsnpp": {"name": "ncsnpp", **LEVELS},
    "songunet": {"name": "songunet", **LEVELS, "arch": "ncsnpp", "precond": "edm", "levels": 10},
    "dit": {"name": "dit", "channels": 64, "depth": 2, "head_channels": 32, "patch": 2, "dropout": 0.1},
    "unet2d": {
        "name": "unet2d",
        "config": {
            "block_out_channels": [32, 64],
            "layers_per_block": 1,
            "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
            "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
            "norm_num_groups": 8,
        },
    },
}
"""A narrow section `model` of every main net, for images of 8 pixels."""


def change(tree: Tree, changes: Tree) -> Tree:
    """A copy of a params tree with dotted keys set, for instance {"train.batch": 4}."""
    tree = copy.deepcopy(tree)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place[part]
        place[last] = copy.deepcopy(value)  # else a later key could change the tree it was taken from
    return tree


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one that begins last would leave the other workers nothing to do."""

    def place(item: pytest.Item) -> int:
        return next((i for i, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests share the cores with each other; torch on more threads than free cores crawls."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo() -> Tree:
    """params.yaml as shipped, parsed but not validated."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="session")
def small(demo: Tree) -> Tree:
    """The demo shrunk to seconds."""
    return change(demo, SMALL)


@pytest.fixture
def params(small: Tree) -> Callable[..., Params]:
    """params({"train.batch": 4}): the small parameters with changes, validated."""
    return lambda changes=None: parse_params(change(small, changes or {}), "test params")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server on loopback, shared by the tests of a process; take `s3.new_bucket()` each."""
    from tests.s3_server import S3  # needs boto3, which tests/gpu does not

    server = S3(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@dataclass
class Images:
    """A training set in memory, as the loops take it."""

    pixels: NDArray[np.uint8]
    sha256: str = "0" * 64
    paired: Images | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape[1:]

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[indices]


@pytest.fixture
def images() -> Images:
    """40 random images of 3x8x8, each with its negative as its pair."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (40, 3, 8, 8), np.uint8)
    return Images(pixels, paired=Images(255 - pixels))
