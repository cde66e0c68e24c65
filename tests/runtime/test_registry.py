"""Files as choices: listed without an import, and asked for what they must hold."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import find, names_in
from tests.conftest import ROOT


def test_names_are_the_files_of_the_folder() -> None:
    files = {path.stem for path in (ROOT / "cspipe/samplers").glob("*.py")}
    assert set(names_in("cspipe.samplers")) == files - {"__init__"}
    assert names_in("cspipe.sources") == sorted(names_in("cspipe.sources"))


def test_listing_imports_nothing() -> None:
    code = (
        "import sys; from cspipe.runtime.registry import names_in; print(names_in('cspipe.compensators'), *sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'unet'" in shown
    assert not {"torch", "cspipe.nets"} & set(shown.split())


@pytest.mark.parametrize(("name", "member"), [("nope", "step"), ("ddim", "leap")])
def test_what_is_not_there_is_told_with_what_is(name: str, member: str) -> None:
    message = f"'{name}' is no file of cspipe.samplers with `{member}` .* ddim, ddpm"
    with pytest.raises(UserError, match=message):
        find("cspipe.samplers", name, member)
