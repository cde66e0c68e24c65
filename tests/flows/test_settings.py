"""params.yaml of a run: a preset with overrides, or a message and nothing changed."""

import shutil
from pathlib import Path

import pytest

from cspipe.config.params_file import load_params
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
    assert "  images: 1024           # in all" in (root / "params.yaml").read_text()
