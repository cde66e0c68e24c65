"""params.yaml: every wrong value is refused with its key, and what is accepted can be worked with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cspipe.config.params import Params
from cspipe.config.params_file import ParamsError, load_params, parse_params
from tests.conftest import MODELS, ROOT, Tree, change

DEMO = yaml.safe_load((ROOT / "params.yaml").read_text())


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def sections(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield ".".join((*path, key))
            yield from sections(value, (*path, key))


def refuse(changes: Tree) -> str:
    with pytest.raises(ParamsError) as error:
        parse_params(change(DEMO, changes), "params.yaml")
    return str(error.value)


@pytest.mark.parametrize("key", [key for key, _ in leaves(DEMO)])
def test_wrong_type_is_refused_by_key(key: str) -> None:
    message = refuse({key: {"a": "mapping"}})
    assert "params.yaml" in message
    assert key in message


@pytest.mark.parametrize("key", [key for key, value in leaves(DEMO) if isinstance(value, int | float)])
def test_number_given_as_words_nan_or_negative_is_refused(key: str) -> None:
    for wrong in ("many", float("nan"), -1):
        assert key in refuse({key: wrong})


@pytest.mark.parametrize("section", ["", *(s for s in sections(DEMO) if s != "variants")])
def test_unknown_key_is_refused_by_name(section: str) -> None:
    key = f"{section}.colour".removeprefix(".")
    assert f"{key}: unknown key" in refuse({key: 1})


@pytest.mark.parametrize("key", [key for key, _ in leaves(DEMO)])
def test_missing_key_is_refused_by_name(key: str) -> None:
    tree = change(DEMO, {})
    place = tree
    *path, last = key.split(".")
    for part in path:
        place = place[part]
    del place[last]
    with pytest.raises(ParamsError, match="key is missing") as error:
        parse_params(tree, "params.yaml")
    assert key in str(error.value)


IMPOSSIBLE = [
    ({"diffusion.steps": 1}, "diffusion.steps"),
    ({"variants.cs-10.steps": 101}, "variants.cs-10.steps 101 must be at most diffusion.steps 100"),
    ({"model.channels": 40}, "model.channels x 1 = 40 must be divisible by 16"),
    ({"model.head_channels": 24}, "model.channels x 1 = 32 must be divisible by head_channels 24"),
    ({"model": {"channels": 32}}, "model.name: key is missing; it is 'adm', 'ddpm', "),
    ({"model.name": "x"}, "model.name: Input should be 'adm', 'ddpm', "),
    ({"model.name": "x"}, "(got 'x'; the main net, a file of cspipe/backbones)"),
    ({"model.name": "ddpm"}, "model.head_channels: unknown key"),
    ({"model": {**MODELS["ddpm"], "channels": 24}}, "model.channels x 1 = 24 must be divisible by 16"),
    ({"model": {**MODELS["ddpm"], "attention": [7]}}, "model.attention 7 is no resolution of the net; it has [16, 8]"),
    ({"model": {**MODELS["ncsnpp"], "dropout": 1}}, "model.dropout: Input should be less than 1 (got 1; probability"),
    (
        {"model": MODELS["ncsnpp"], "data.size": 17},
        "data.size 17 must be a multiple of 2 and at least 4: model.multipliers has 2 levels and halves 1 times",
    ),
    ({"model": {**MODELS["dit"], "patch": 3}}, "data.size 16 must be a multiple of model.patch 3"),
    ({"model": {**MODELS["dit"], "channels": 66}}, "model.channels 66 must be divisible by 4"),
    ({"model": {**MODELS["dit"], "head_channels": 24}}, "model.channels 64 must be divisible by head_channels 24"),
    ({"compensation.channels": 20}, "compensation.channels 20 must be divisible by 16"),
    ({"data.size": 18}, "data.size 18 must be a multiple of 4"),
    ({"data.size": 4}, "data.size 4 must be a multiple of 4"),
    ({"model.attention": [7]}, "model.attention 7 is no resolution of the net; it has [16, 8, 4]"),
    ({"train.micro_batch": 24}, "train.micro_batch 24 must divide train.batch 32"),
    ({"train.images": 10}, "train.images 10 must be at least one train.batch (32)"),
    ({"data.path": "data/raw/x"}, "data.path must be null with data.source avatars"),
    ({"data.source": "folder"}, "data.path must name a file or folder"),
    ({"data.limit": None}, "data.limit must be a number with data.source avatars"),
    ({"variants.cs-10.correction": None}, "reads must be models/main without a correction"),
    ({"variants.ddim-100.reads": "models"}, "reads must be models/main without a correction"),
    ({"variants.ddim-100.sampler": "ddpm"}, "eta must be 1 with sampler ddpm"),
    ({"variants.cs-10.eta": 0.5}, "eta must be 0 with a correction"),
    ({"variants.cs-10.reads": "models/main"}, "reads must be models with correction compensation, which needs"),
    (
        {"variants.ddim-100.sampler": "ipndm", "variants.ddim-100.repaint": {"rounds": 2, "masks": ["half"]}},
        "repaint must be null with sampler ipndm, which remembers the steps before and cannot go back up; "
        "to repaint use sampler ddim or ddpm or heun",
    ),
    ({"variants.ddim-100.sampler": "x"}, "variants.ddim-100.sampler: Input should be 'ddim'"),
    ({"compensation.net": "x"}, "compensation.net: Input should be 'resnet', "),
    ({"data.source": "x"}, "data.source: Input should be 'avatars', "),
    ({"variants.cs-10.correction": {"weight": 1}}, "variants.cs-10.correction.name: key is missing"),
    ({"variants.cs-10.correction": "kappa"}, "variants.cs-10.correction: Input should be a valid dictionary"),
    ({"variants.cs-10.correction.name": "x"}, "correction.name: Input should be 'compensation'"),
    ({"variants.cs-10.correction.name": "x"}, "(got 'x'; the correction, a file of cspipe/corrections)"),
    ({"variants.cs-10.correction.weight": "x"}, "(got 'x'; w(t, s): kappa (exact), signal, cold, or a constant)"),
    ({"train.flip": "yes"}, "train.flip"),
    ({"train.compensation.share": True}, "must be a number, not true"),
    ({"data.channels": True}, "must be a number, not true"),
    ({"evaluate.images": 10_000}, "evaluate.images 10000 must be at most sample.images"),
    ({"evaluate.kid_subset_size": 1000}, "evaluate.kid_subset_size 1000 must be at most evaluate.images"),
    ({"evaluate.extractor": "inception-v3-compat"}, "evaluate.weights must name the file weights-inception-2015-12-05"),
    ({"variants": {}}, "variants"),
    ({"variants": {"Big Name": DEMO["variants"]["cs-10"]}}, "variants"),
    ({"variants": {"cs-0.5": DEMO["variants"]["cs-10"]}}, "variants"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_impossible_values_say_what_to_do(changes: Tree, message: str) -> None:
    assert message in refuse(changes)


def test_message_gives_the_value_and_the_meaning_of_the_key() -> None:
    message = refuse({"train.batch": "x"})
    assert "train.batch: Input should be a valid integer (got 'x'; images per optimizer step)" in message


def test_several_problems_are_told_at_once() -> None:
    message = refuse({"train.batch": "x", "seed": -1, "compute.device": "tpu"})
    assert all(key in message for key in ("train.batch", "seed", "compute.device"))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@given(tree=junk)
def test_any_yaml_is_parsed_or_refused(tree: Any) -> None:
    with pytest.raises(ParamsError):
        parse_params(tree, "params.yaml")


@given(key=st.sampled_from([key for key, _ in leaves(DEMO)]), value=junk)
def test_any_value_is_accepted_or_refused_with_a_message(key: str, value: Any) -> None:
    try:
        params = parse_params(change(DEMO, {key: value}), "params.yaml")
    except ParamsError as error:
        assert str(error).startswith("params.yaml: ")  # noqa: PT017 (either outcome is right)
    else:
        assert isinstance(params, Params)


@pytest.mark.parametrize("model", MODELS)
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

    from cspipe.nets.build import build_compensation, build_main

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
        place = {"image_channels": 3, "condition_channels": 0, "size": size}
        assert build_main(params.model, **place)(x, t).shape == x.shape
        assert build_compensation(params.compensation, **place)(x, t).shape == x.shape


def test_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: cannot be read"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("seed: [1")
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_settings_of_a_main_net_are_kept_whole(params: Callable[..., Params], model: Tree) -> None:
    """A model file records them, and is read by what is recorded."""
    chosen = params({"model": model})
    assert chosen.model.model_dump() == model
    assert Params.model_validate(chosen.model_dump()) == chosen


def test_settings_of_a_correction_are_kept_whole(params: Callable[..., Params]) -> None:
    """They are not those of the base class alone: provenance records them, and what is recorded can be read."""
    dumped = params().model_dump()
    assert dumped["variants"]["cs-10"]["correction"] == DEMO["variants"]["cs-10"]["correction"]
    assert Params.model_validate(dumped) == params()


def test_parameters_cannot_change_after_reading(params: Callable[..., Params]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params().seed = 1  # type: ignore[misc]
