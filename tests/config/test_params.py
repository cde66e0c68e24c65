"""params.yaml: every wrong value is refused with its key, and what is accepted can be worked with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cspipe.config.params import Params
from cspipe.config.params_file import ParamsError, load_params, parse_params
from tests.conftest import MODELS, ROOT, Tree, change

DEMO = yaml.safe_load((ROOT / "params.yaml").read_text())


def keys(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in tree.items():
        yield ".".join((*path, key))
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


def refuse(changes: Tree) -> str:
    with pytest.raises(ParamsError) as error:
        parse_params(change(DEMO, changes), "params.yaml")
    return str(error.value)


REPAINT = {"rounds": 2, "masks": ["half"]}
BOXES = {"rounds": 2, "masks": ["box"]}
CAPPED = {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": 0.3}
SEVERAL = {"name": "several", "of": [CAPPED, {"name": "epsilon_scaling", "base": 1.0, "slope": 0.0}]}
REFUSED = [
    # kinds of mistakes in the file
    ({"train.colour": 1}, "train.colour", "unknown key"),
    ({"train": {}}, "train.batch", "key is missing"),
    ({"train.batch": "x"}, "train.batch", "'x'"),
    ({"variants": {"Big Name": DEMO["variants"]["cs-10"]}}, "variants", "Big Name"),
    ({"variants": {"x\n$(touch PWNED)": DEMO["variants"]["cs-10"]}}, r"variants.x\n$(touch PWNED)", "pattern"),
    # names of files, and sections whose keys follow from one
    ({"model": {"channels": 32}}, "model.name", "'adm', 'ddpm', "),
    ({"model.name": "ddpm"}, "model.head_channels", "unknown key"),
    ({"variants.cs-10.correction": {"weight": 1}}, "variants.cs-10.correction.name", "'compensation'"),
    # values that do not fit each other
    ({"variants.cs-10.steps": 101}, "variants.cs-10.steps", "101"),
    ({"variants.cs-10.steps": [90, 40]}, "variants.cs-10.steps", "begin with 100"),
    ({"variants.cs-10.steps": [100, 40, 40]}, "variants.cs-10.steps", "[100, 40, 40]"),
    ({"variants.cs-10.steps": [100, 0]}, "variants.cs-10.steps", "0"),
    ({"variants.cs-10.steps": []}, "variants.cs-10.steps", "[]"),
    ({"variants.cs-10.correction": None}, "reads", "models/main"),
    ({"variants.cs-10.reads": "models/main"}, "reads", "compensation"),
    ({"variants.ddim-100.reads": "models"}, "reads", "models/main"),
    ({"variants.ddim-100.sampler": "ddpm"}, "eta", "ddpm"),
    ({"variants.cs-10.eta": 0.5}, "eta", "compensation"),
    ({"variants.cs-10.etta": 0.5}, "variants.cs-10.etta", "unknown key"),
    ({"variants.cs-10.sampler": "heun", "variants.cs-10.correction.cap": 0.3}, "correction.cap", "heun"),
    ({"variants.cs-10.sampler": "heun", "variants.cs-10.correction": SEVERAL}, "correction.cap", "heun"),
    ({"variants.ddim-100.snapshot": 16000}, "variants.ddim-100.snapshot", "train.snapshots"),
    ({"variants.cs-10.snapshot": 16000, "train.snapshots": [16000]}, "variants.cs-10", "compensation"),
    ({"variants.ddim-100.sampler": "ipndm", "variants.ddim-100.repaint": REPAINT}, "repaint", "ddim or ddpm or heun"),
    ({"variants.ddim-100.repaint": REPAINT, "variants.cs-10.repaint": BOXES}, "variants.cs-10.repaint.masks", "box"),
    ({"variants.cs-10.sampler": "fitted"}, "variants.cs-10", "sampler fitted"),
    ({"variants.ddim-100.sampler": "fitted", "task": "inpaint"}, "variants.ddim-100.sampler", "fitted"),
    ({"model.channels": 40}, "model.channels", "40"),
    ({"model.head_channels": 24}, "model.channels", "head_channels 24"),
    ({"model.attention": [7]}, "model.attention", "7"),
    ({"model": {**MODELS["ddpm"], "channels": 24}}, "model.channels", "24"),
    ({"model": MODELS["ncsnpp"], "data.size": 17}, "data.size", "17"),
    ({"model": {**MODELS["dit"], "patch": 3}}, "data.size", "model.patch 3"),
    ({"model": {**MODELS["dit"], "channels": 66}}, "model.channels", "66"),
    ({"model": {**MODELS["songunet"], "attention": []}}, "model.levels 10", "diffusion.steps, which is 100"),
    ({"compensation.channels": 20}, "compensation.channels", "20"),
    ({"data.size": 18}, "data.size", "18"),
    ({"train.micro_batch": 24}, "train.micro_batch", "24"),
    ({"train.images": 10}, "train.images", "10"),
    ({"train.compensation.path": 1}, "train.compensation", "gap"),
    ({"train.method": "weight_control", "train.loss": "l1"}, "train.loss", "weight_control"),
    ({"train.t_max": 101}, "train.t_max", "100"),
    ({"train.t_max": 9, "train.compensation.path": 10}, "train.t_max", "10"),
    ({"train.start_from": {"folder": "data/weights/x", "sha256": "1f"}}, "train.start_from.sha256", "'1f'"),
    ({"data.path": "data/raw/x"}, "data.path", "avatars"),
    ({"data.source": "folder"}, "data.path", "folder"),
    ({"data.limit": None}, "data.limit", "avatars"),
    ({"evaluate.images": 10_000}, "evaluate.images", "10000"),
    ({"evaluate.kid_subset_size": 1000}, "evaluate.kid_subset_size", "1000"),
    ({"evaluate.extractor": "inception-v3-compat"}, "evaluate.weights", "weights-inception-2015-12-05"),
]


@pytest.mark.parametrize(("changes", "key", "value"), REFUSED)
def test_what_cannot_be_is_refused_in_a_line_with_key_and_value(changes: Tree, key: str, value: str) -> None:
    message = refuse(changes)
    assert message.startswith("params.yaml: ")
    assert [line for line in message.splitlines() if key in line and value in line]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(key=st.sampled_from([*keys(DEMO)]), value=junk)
def test_any_value_is_accepted_or_refused_with_a_message(key: str, value: Any) -> None:
    try:
        params = parse_params(change(DEMO, {key: value}), "params.yaml")
    except ParamsError as error:
        assert str(error).startswith("params.yaml: ")  # noqa: PT017 (either outcome is right)
    else:
        assert isinstance(params, Params)


@pytest.mark.parametrize("model", sorted(MODELS.keys() - {"unet2d", "songunet"}))  # diffusers' own; ncsnpp's keys
@settings(max_examples=20)
@given(
    size=st.integers(1, 64) | st.integers(1, 8).map(lambda n: 8 * n),
    channels=st.integers(1, 128) | st.integers(1, 8).map(lambda n: 16 * n),
    multipliers=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    head_channels=st.integers(1, 64) | st.sampled_from([4, 8, 16]),
)
def test_every_accepted_net_can_be_built_and_run(
    model: str, size: int, channels: int, multipliers: list[int], head_channels: int
) -> None:
    """The checks of params.yaml are enough: what passes them has a net whose output has the shape of its input."""
    import torch

    drawn = {"channels": channels, "multipliers": multipliers, "head_channels": head_channels, "attention": [size]}
    drawn |= {"patch": multipliers[0], "depth": 1}
    keys = MODELS[model]
    changes = {"data.size": size, "model": {key: drawn.get(key, value) for key, value in keys.items()}}
    try:
        params = parse_params(change(DEMO, changes), "params.yaml")
    except ParamsError:
        return
    with torch.device("meta"):
        x, t = torch.zeros(2, 3, size, size), torch.ones(2)
        assert params.model.build(3, 3, size)(x, t).shape == x.shape
        assert params.compensation.build(3, 3, size)(x, t).shape == x.shape


def test_a_variant_needs_three_keys() -> None:
    short = {"sampler": "ddim", "steps": 100, "reads": "models/main"}
    params = parse_params(change(DEMO, {"variants": {"short": short, "ddim-100": DEMO["variants"]["ddim-100"]}}), "")
    assert params.variants["short"] == params.variants["ddim-100"]
    for key in short:
        left = {name: value for name, value in short.items() if name != key}
        assert f"variants.short.{key}: key is missing" in refuse({"variants": {"short": left}})


def test_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: no such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("seed: [1")
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_key_that_a_section_has_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 1\ntrain:\n  images: 5\n  batch: 2\n  images: 7\n")
    with pytest.raises(ParamsError, match="line 3: images stands in its section once more"):
        load_params(tmp_path / "params.yaml")


def test_a_long_value_is_told_by_its_beginning() -> None:
    message = refuse({"seed": ["x" * 1000] * 1000})
    assert "seed" in message
    assert "['xxx" in message
    assert len(message) < 1000
