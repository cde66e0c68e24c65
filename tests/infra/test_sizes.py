"""The sizes in infra/README.md: recomputed from the presets, and the rule for a training state tried on a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cspipe.config.overlays import read_preset
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params
from cspipe.nets.blocks import count_parameters
from cspipe.runtime.checkpoint import Checkpoints
from cspipe.runtime.device import open_device
from cspipe.stages.train import new_trainer
from cspipe.training.stream import Batch, TrainingSet
from tests.conftest import Pictures, Tree, change
from tests.infra.conftest import INFRA

FLOAT = 4
PICTURES = {"demo": 4608, "cifar10": 60_000, "celeba64": 202_599, "ffhq256": 70_000}
"""In the published sets; the demo renders its own."""


def preset(name: str) -> Params:
    return parse_params(read_preset(name).tree, name)


def counts(params: Params) -> tuple[int, int]:
    """Parameters of the main net and of the module, without allocating them."""
    channels, size = params.data.channels, params.data.size
    with torch.device("meta"):
        nets = [section.build(channels, channels, size) for section in (params.model, params.compensation)]
    return count_parameters(nets[0]), count_parameters(nets[1])


def state_bytes(main: int, module: int) -> int:
    """Main net: weights, EMA and Adam's two moments. Module: weights and two moments."""
    return FLOAT * (4 * main + 3 * module)


def table() -> dict[str, list[str]]:
    """The README's rows of sizes by preset."""
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in (INFRA / "README.md").read_text().splitlines()
    ]
    return {row[0]: row[1:] for row in rows if row[0] in PICTURES and len(row) > 4}


def written(size: float) -> str:
    """Bytes as the README writes them: three digits, decimal units."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{size / unit:.3g} {name}"


def test_the_readme_has_a_row_for_every_preset() -> None:
    assert set(table()) == set(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_a_row_says_what_the_preset_needs(name: str) -> None:
    params = preset(name)
    main, module = counts(params)
    picture = params.data.channels * params.data.size**2
    assert table()[name] == [
        f"{main / 1e6:.1f} + {module / 1e6:.1f} M",
        written(state_bytes(main, module)),
        str(-(-params.train.images // params.train.checkpoint_every)),
        written(PICTURES[name] * picture),
        written(FLOAT * (2 * main + module)),
        written(len(params.variants) * params.sample.images * picture),
    ]


def test_a_real_state_is_as_large_as_the_rule_says(demo: Tree, pictures: Pictures, tmp_path: Path) -> None:
    changes = {"compute.device": "cpu", "train.batch": 2, "train.micro_batch": 2, "compensation.batch": 2}
    params = parse_params(change(demo, changes), "demo")
    trainer = new_trainer(params, TrainingSet(pictures), open_device(params.compute))  # type: ignore[arg-type]
    trainer.step(Batch(torch.zeros(params.train.batch, 3, 16, 16), None), 0)  # Adam's moments exist after a step
    stored = Checkpoints(tmp_path, "key").save(params.train.batch, trainer.state_dict()).stat().st_size
    assert stored == pytest.approx(state_bytes(*counts(params)), rel=0.05)
