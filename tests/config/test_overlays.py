"""Params files in layers: which value and which origin holds, and what is refused."""

from pathlib import Path

import pytest
import yaml

from cspipe.config.overlays import read_layers, set_keys
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
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
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
        ("extends: complete.yaml\ntrain: {masks: {half: 1}}\n", "train"),
        ("extends: none.yaml\n", "none.yaml"),
        ("extends: wrong.yaml\n", "wrong.yaml extends this file"),
        ("", "mapping"),
        ("extends: [\n", "YAML"),
        (LAUGHS, "1000000"),
        ("seed: &seed [*seed]\n", "YAML"),
        ("seed: 2001-99-99\n", "YAML"),
        (f"seed: {'[' * 5000}\n", "YAML"),
    ],
)
def test_what_cannot_be_layered_is_refused_with_file_and_key(folder: Path, text: str, key: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    with pytest.raises(ParamsError) as error:
        read_layers(folder / "wrong.yaml")
    assert "wrong.yaml: " in str(error.value)
    assert key in str(error.value)


@pytest.mark.parametrize(
    "key", ["colour", "train.imagse", "train.images.all", "variants.new", "variants.cs.correction.name"]
)
def test_set_keys_refuses_keys_that_are_not_there(key: str) -> None:
    with pytest.raises(ParamsError, match=r"overrides: ") as error:
        set_keys(TREE, {key: 1}, "overrides")
    assert key in str(error.value)


def test_a_key_that_a_variant_leaves_out_can_be_set() -> None:
    changed = set_keys(TREE, {"variants.cs.eta": 1.0}, "overrides")
    assert changed["variants"] == {**TREE["variants"], "cs": {"steps": 7, "correction": None, "eta": 1.0}}
    changed = set_keys(TREE, {"variants": {"new": {"steps": 3}}, "variants.new.eta": 1.0}, "overrides")
    assert changed["variants"] == {"new": {"steps": 3, "eta": 1.0}}
    with pytest.raises(ParamsError, match=r"no key variants\.cs\.eta"):
        set_keys(TREE, {"variants.cs": None, "variants.cs.eta": 1.0}, "overrides")
