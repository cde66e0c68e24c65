"""What a line of drift names as its likely cause."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.nightly.causes import MOST, UNKNOWN, changed_content, changed_pins, changed_versions, likely_causes

THEN = {"torch": "2.15.0+cu130", "torchvision": "0.29", "device": "H200", "model_sha256": "a" * 64, "code": {"a": "1"}}
PACKAGES = ["numpy", "pillow", "pyyaml", "prefect", "psutil", "pydantic", "rich", "typer"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A revision that pins nothing."""
    return pinning(tmp_path, [])


def pinning(folder: Path, pins: Sequence[str]) -> Path:
    """A revision with these pins."""
    (folder / "pyproject.toml").write_text(f"[tool.uv]\nconstraint-dependencies = {list(pins)}\n")
    return folder


def test_nothing_recorded_differs(root: Path) -> None:
    assert likely_causes(THEN, dict(THEN), root) == UNKNOWN
    assert changed_content(THEN, dict(THEN)) == []


def test_what_was_recorded_is_named_then_and_now() -> None:
    now = THEN | {"torch": "2.16.0", "model_sha256": "b" * 64}
    assert changed_versions(THEN, now) == ["torch 2.15.0+cu130 then, 2.16.0 now"]
    assert changed_content(THEN, now) == ["model_sha256 aaaaaaaaaaaa then, bbbbbbbbbbbb now"]


def test_packages_are_no_cause_where_content_or_code_differs(tmp_path: Path) -> None:
    root = pinning(tmp_path, [f"{name}==0.0.1" for name in PACKAGES])
    now = THEN | {"torch": "2.16.0", "model_sha256": "b" * 64, "code": {"a": "2"}}
    assert likely_causes(THEN, now, root) == (
        "models/main is not what the recorded samples were drawn from; the revision's code is not what made the "
        "recorded files"
    )
    assert likely_causes(THEN, now | {"code": {"a": "1"}}, root).endswith("the recorded samples were drawn from")


def test_another_build_for_another_device_is_no_other_version(root: Path) -> None:
    now = THEN | {"torch": "2.15.0", "device": "cpu"}
    assert changed_versions(THEN, now) == []
    assert changed_versions(THEN, THEN | {"torch": "2.15.0"}) == ["torch 2.15.0+cu130 then, 2.15.0 now"]
    assert likely_causes(THEN, now, root) == "device H200 then, cpu now"


def test_pins_of_the_revision_that_are_not_installed_are_named(tmp_path: Path) -> None:
    pins = ["numpy==1.0.0", f"pillow=={version('pillow')}", 'pyyaml==1 ; python_version < "3"', "no-such-package==1"]
    assert changed_pins(pinning(tmp_path, pins)) == [f"numpy 1.0.0 then, {version('numpy')} now"]


def test_a_recorded_version_counts_more_than_its_pin(tmp_path: Path) -> None:
    pins = ["torch==1.0.0", "torchvision==0.1", "torch-fidelity==0.0.1"]
    assert changed_pins(pinning(tmp_path, pins)) == []


def test_of_many_packages_torch_comes_first_and_most_are_counted(tmp_path: Path) -> None:
    root = pinning(tmp_path, [f"{name}==0.0.1" for name in PACKAGES])
    told = likely_causes(THEN, THEN | {"torchvision": "0.30", "torch": "2.16.0"}, root).split("; ")
    assert told[:2] == ["torch 2.15.0+cu130 then, 2.16.0 now", "torchvision 0.29 then, 0.30 now"]
    assert [text.partition(" ")[0] for text in told[2:-1]] == PACKAGES[:MOST]
    assert told[-1] == f"and {len(PACKAGES) - MOST} other packages"
