"""What a line of drift names as its likely cause."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from flows.nightly.causes import MOST, UNKNOWN, changed_content, changed_pins, changed_versions, likely_causes

THEN = {"torch": "2.15.0+cu130", "torchvision": "0.29", "device": "H200", "model_sha256": "a" * 64, "code": {"a": "1"}}


def test_nothing_recorded_differs(tmp_path: Path) -> None:
    assert likely_causes(THEN, dict(THEN), tmp_path) == UNKNOWN
    assert changed_content(THEN, dict(THEN)) == []


def test_versions_and_content_are_named_then_and_now(tmp_path: Path) -> None:
    now = THEN | {"torch": "2.16.0", "model_sha256": "b" * 64, "code": {"a": "2"}}
    assert changed_versions(THEN, now) == ["torch 2.15.0+cu130 then, 2.16.0 now"]
    assert changed_content(THEN, now) == ["model_sha256 aaaaaaaaaaaa then, bbbbbbbbbbbb now"]
    assert likely_causes(THEN, now, tmp_path) == (
        "models/main is not what the recorded samples were drawn from; the revision's code is not what made the "
        "recorded files; torch 2.15.0+cu130 then, 2.16.0 now"
    )


def test_another_build_for_another_device_is_no_other_version(tmp_path: Path) -> None:
    now = THEN | {"torch": "2.15.0", "device": "cpu"}
    assert changed_versions(THEN, now) == []
    assert changed_versions(THEN, THEN | {"torch": "2.15.0"}) == ["torch 2.15.0+cu130 then, 2.15.0 now"]
    assert likely_causes(THEN, now, tmp_path) == "device H200 then, cpu now"


def test_pins_of_the_revision_that_are_not_installed_are_named(tmp_path: Path) -> None:
    pins = ["numpy==1.0.0", f"pillow=={version('pillow')}", 'pyyaml==1 ; python_version < "3"', "no-such-package==1"]
    (tmp_path / "uv.toml").write_text(f"constraint-dependencies = {pins}\n")
    assert changed_pins(tmp_path) == [f"numpy 1.0.0 then, {version('numpy')} now"]


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    names = ["numpy", "pillow", "pyyaml", "prefect", "psutil", "pydantic", "rich", "typer"]
    (tmp_path / "uv.toml").write_text(f"constraint-dependencies = {[f'{name}==0.0.1' for name in names]}\n")
    told = likely_causes(THEN, dict(THEN), tmp_path)
    assert told.count(" then, ") == MOST
    assert told.endswith("; and 2 more")
