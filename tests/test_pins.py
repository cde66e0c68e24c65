"""The pins of pyproject.toml are what is installed, and what uv resolves to."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flows.pins import read_pins
from infra.pins import EXPORT
from tests.conftest import ROOT

PINS = read_pins((ROOT / "pyproject.toml").read_text())


def test_what_is_installed_is_what_is_pinned() -> None:
    wanted = [Requirement(pin) for pin in PINS]
    pinned = {pin.name: pin.specifier for pin in wanted if pin.marker is None or pin.marker.evaluate()}
    installed = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    del installed["cspipe"]
    assert installed.keys() - pinned.keys() == set(), "without a pin: `uv sync`, or `python infra/pins.py` renews them"
    off = [f"{name} {here}, pinned {pinned[name]}" for name, here in installed.items() if here not in pinned[name]]
    assert off == [], "`uv sync` installs what is pinned"


@pytest.mark.skipif(not (shutil.which("uv") and (ROOT / "uv.lock").is_file()), reason="needs uv and its uv.lock")
def test_uv_resolves_to_the_pins_on_every_python() -> None:
    """uv.lock holds all Pythons and platforms at once; a lock that disregards a pin is refused."""
    done = subprocess.run([*EXPORT.split(), "--offline"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PINS
