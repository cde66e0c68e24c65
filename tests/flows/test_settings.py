"""params.yaml of a run: a preset with overrides, or a message and nothing changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cspipe.config.params_file import load_params
from cspipe.runtime.errors import UserError
from flows.settings import write_params
from tests.conftest import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "cspipe/config/presets", tmp_path / "cspipe/config/presets")
    (tmp_path / "params.yaml").write_text("before")
    return tmp_path


def test_overrides_change_values_and_keep_the_comments(root: Path) -> None:
    write_params(root, "demo", {"train.images": 1024, "variants.cs-10.steps": 5})
    params = load_params(root / "params.yaml")
    assert params.train.images == 1024
    assert params.variants["cs-10"].steps == 5
    assert "# small: the demo has time for" in (root / "params.yaml").read_text()


def test_without_overrides_it_is_the_preset_byte_for_byte(root: Path) -> None:
    write_params(root, "demo", {})
    assert (root / "params.yaml").read_bytes() == (root / "cspipe/config/presets/demo.yaml").read_bytes()


@pytest.mark.parametrize(
    ("preset", "overrides", "says"),
    [
        ("dmeo", {}, "no preset 'dmeo' in this revision; it has"),
        ("demo", {"train.imagse": 5}, "'train.imagse': params.yaml has no such key"),
        ("demo", {"train.images.all": 5}, "no such key"),
        ("demo", {"train.batch": 7}, "train.micro_batch"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_changes(
    root: Path, preset: str, overrides: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=r".") as caught:
        write_params(root, preset, overrides)
    assert says in str(caught.value)
    assert (root / "params.yaml").read_text() == "before"
