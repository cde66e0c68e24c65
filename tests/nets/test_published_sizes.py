"""The main nets have as many parameters as their sources tell."""

from typing import Any

import pytest
import torch

from cspipe.nets.backbone import BACKBONES
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.registry import find

CIFAR10 = {"channels": 128, "blocks": 4, "multipliers": [2, 2, 2], "attention": [16]}
"""EDM's nets of Karras et al. (2022), unconditional and without augmentation; counted by EDM's own class."""
SONG = {**CIFAR10, "name": "songunet", "precond": "edm", "levels": 18}


def adm(channels: int, blocks: int, multipliers: list[int], attention: list[int]) -> dict[str, Any]:
    levels = {"channels": channels, "blocks": blocks, "multipliers": multipliers, "attention": attention}
    return {"name": "adm", **levels, "head_channels": 64}


SIZES = {
    # guided-diffusion's, in millions; six channels, as it learns the variance
    "ADM, CIFAR-10": (adm(128, 3, [1, 2, 2, 2], [16, 8]), (3, 6, 32), 57.1),
    "ADM, CelebA-64": (adm(192, 3, [1, 2, 3, 4], [32, 16, 8]), (3, 6, 64), 295.1),
    "ADM, 256 pixels": (adm(256, 2, [1, 1, 2, 2, 4, 4], [32, 16, 8]), (3, 6, 256), 552.8),
    "ADM, FFHQ-256, small": (adm(128, 1, [1, 1, 2, 2, 4, 4], [16]), (3, 6, 256), 93.6),
    "DDPM, CIFAR-10": (  # Ho et al. (2020), appendix B: 35.7 M
        {"name": "ddpm", "channels": 128, "blocks": 2, "multipliers": [1, 2, 2, 2], "attention": [16]},
        (3, 3, 32), 35_746_307,
    ),
    # on latents with a learned variance; the source counts positions, and labels, which are not in ours
    "DiT-S/2": (
        {"name": "dit", "channels": 384, "depth": 12, "head_channels": 64, "patch": 2},
        (4, 8, 32), 32_963_360 - 1001 * 384 - 16 * 16 * 384,
    ),
    "NCSN++": ({"name": "ncsnpp", **CIFAR10}, (3, 3, 32), 56_395_523),
    "NCSN++ of EDM": ({**SONG, "arch": "ncsnpp"}, (3, 3, 32), 56_395_523),
    "DDPM++ of EDM": ({**SONG, "arch": "ddpmpp"}, (3, 3, 32), 55_732_739),
}  # fmt: skip


@pytest.mark.parametrize(("keys", "shape", "expected"), SIZES.values(), ids=SIZES)
def test_parameters_are_as_many_as_published(keys: dict[str, Any], shape: tuple[int, ...], expected: float) -> None:
    settings = find(BACKBONES, keys["name"], "Settings")(**keys, dropout=0.13)
    with torch.device("meta"):
        count = count_parameters(settings.build(*shape))
    assert expected == (count if isinstance(expected, int) else round(count / 1e6, 1))
