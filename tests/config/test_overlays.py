"""Params files in layers: which value, which comment and which origin holds, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cspipe.config.overlays import Layered, read_layers, set_keys
from cspipe.config.params_file import ParamsError

COMPLETE = """\
# complete
seed: 0                  # of every random number

model:                   # the main net
  name: adm
  heads: 4               # of attention

train:
  images: 10             # in all
  batch: 2
  masks: [half, box]
  compensation:
    scale: 0.1
    cap: null

variants:
  ddim:
    steps: 5
    correction: {name: compensation, weight: 1.0}
  cs:
    steps: 7
    correction: null
"""
MIDDLE = """\
# middle
extends: complete.yaml
train:
  images: 20             # a paper's
  batch: 4               # a paper's
  masks: [thin]
  compensation: {cap: {max: 3}}
"""
TOP = """\
# top
# of two lines
extends: middle.yaml
train: {images: 30}
model: {name: dit, depth: 2}  # another net
variants:
  cs: {steps: 9, correction: null}
"""
TREE = yaml.safe_load(COMPLETE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("complete", COMPLETE), ("middle", MIDDLE), ("top", TOP)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_values_are_set_key_by_key_but_model_and_variants_are_replaced(folder: Path) -> None:
    assert read_layers(folder / "top.yaml").tree == {
        "seed": 0,
        "model": {"name": "dit", "depth": 2},
        "train": {"images": 30, "batch": 4, "masks": ["thin"], "compensation": {"scale": 0.1, "cap": {"max": 3}}},
        "variants": {"cs": {"steps": 9, "correction": None}},
    }


def test_comments_are_of_the_file_that_gives_the_value_or_explain_the_key(folder: Path) -> None:
    """Not of a file between them: its comment says where its value is from."""
    lines = read_layers(folder / "top.yaml").text().splitlines()
    assert lines[:3] == ["# top", "# of two lines", "seed: 0                  # of every random number"]
    assert "  images: 30             # in all" in lines
    assert "  batch: 4               # a paper's" in lines
    assert "model:                   # another net" in lines


def test_a_complete_file_is_written_as_it_is(folder: Path) -> None:
    assert read_layers(folder / "complete.yaml").text() == COMPLETE


def test_origins_are_the_files_that_give_the_values(folder: Path) -> None:
    layers = read_layers(folder / "top.yaml")
    lines = layers.text(origins=True).splitlines()
    assert "seed: 0                  # complete: of every random number" in lines
    assert "  batch: 4               # middle: a paper's" in lines
    assert "    steps: 9             # top" in lines
    assert yaml.safe_load("\n".join(lines)) == layers.tree


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("extends: complete.yaml\ncolour: 1\n", "colour"),
        ("extends: complete.yaml\ntrain: {compensation: {scal: 1}}\n", "train.compensation.scal"),
        ("extends: complete.yaml\ntrain: {1: 1}\n", "train.1"),
        ("extends: complete.yaml\ntrain: {masks: {half: 1}}\n", "train"),
        ("extends: complete.yaml\nseed: 2020-01-01\n", "seed"),
        ("extends: none.yaml\n", "none.yaml"),
        ("extends: [complete.yaml]\n", "extends"),
        ("extends: wrong.yaml\n", "wrong.yaml extends this file"),
        ("- a list\n", "mapping"),
        ("", "mapping"),
        ("extends: [\n", "YAML"),
    ],
)
def test_what_cannot_be_layered_is_refused_with_file_and_key(folder: Path, text: str, key: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        read_layers(folder / "wrong.yaml")
    assert "wrong.yaml: " in str(error.value)
    assert key in str(error.value)


def test_set_keys_keeps_types_and_the_tree_that_it_was_given() -> None:
    changes = {"seed": 1, "train.masks": [], "train.compensation.cap": 1.5, "variants.ddim.correction": {"name": "es"}}
    changed = set_keys(TREE, changes, "overrides")
    assert changed["seed"] == 1
    assert changed["train"] == {**TREE["train"], "masks": [], "compensation": {"scale": 0.1, "cap": 1.5}}
    assert changed["variants"]["ddim"] == {"steps": 5, "correction": {"name": "es"}}
    assert yaml.safe_load(COMPLETE) == TREE


@pytest.mark.parametrize(
    "key", ["colour", "train.imagse", "train.images.all", "variants.new", "variants.cs.correction.name"]
)
def test_set_keys_refuses_keys_that_are_not_there(key: str) -> None:
    with pytest.raises(ParamsError, match=r"overrides: ") as error:
        set_keys(TREE, {key: 1}, "overrides")
    assert key in str(error.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(value=values, key=st.text(max_size=8))
def test_any_value_is_read_back(value: Any, key: str) -> None:
    tree = {key: value, "train": {key: value, "part": {key: value}}}
    comments = {"train": "a: b # c", "train.part": "{"}
    assert yaml.safe_load(Layered(tree, comments, {}, "# one\n").text()) == tree
