"""The `cspipe` command, as typed."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cspipe.cli import main
from cspipe.config.overlays import read_preset
from cspipe.runtime.errors import UserError
from tests.cli.test_inspect import cspipe
from tests.conftest import ROOT


def test_the_version_is_that_of_the_installed_package() -> None:
    assert CliRunner().invoke(main.app, ["--version"]).stdout == f"cspipe {version('cspipe')}\n"


def test_demo_is_the_params_file_as_shipped() -> None:
    assert read_preset("demo").text() == (ROOT / "params.yaml").read_text()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file params.yaml, which is not there yet, of an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def test_a_preset_can_be_listed_shown_used_and_checked(here: Path) -> None:
    (here.parent / "dvc.yaml").touch()
    name = "celebahq256-inpaint"  # the others: tests/config
    assert name in cspipe("params", "list")
    assert name in json.loads(cspipe("params", "list", "--json"))
    shown = cspipe("params", "show", name)
    assert f"# {name}" in shown
    assert yaml.safe_load(shown) == read_preset(name).tree
    assert "# main net:" in shown
    cspipe("params", "use", name)
    assert yaml.safe_load(here.read_text()) == read_preset(name).tree
    assert cspipe("params", "check").startswith("params.yaml: fine")


def test_changes_of_a_person_are_not_overwritten_unasked(here: Path) -> None:
    (here.parent / "dvc.yaml").touch()
    for mine in (b"mine: 1\n", b"mine: \xff\n"):
        here.write_bytes(mine)
        with pytest.raises(UserError, match="--force"):
            cspipe("params", "use", "demo")
        assert here.read_bytes() == mine
    cspipe("params", "use", "demo", "--force")
    cspipe("params", "use", "demo")


def test_what_is_missing_is_said_with_where_to_find_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("explain",), ("experiments",), ("params", "check"), ("serve",), ("models",)):
        with pytest.raises(UserError, match="run this in a project, `cspipe init DIR`"):
            cspipe(*command)
    (here.parent / "dvc.yaml").touch()
    (here.parent / "data").mkdir()
    monkeypatch.chdir(here.parent / "data")
    for command in (("params", "check"), ("params", "use", "demo"), ("plan",), ("serve",)):
        with pytest.raises(UserError, match=f"run this in {here.parent}$"):
            cspipe(*command)
    monkeypatch.chdir(here.parent)
    with pytest.raises(UserError, match=r"params\.yaml: no such file; `cspipe params use demo` writes one"):
        cspipe("params", "check")
    with pytest.raises(UserError, match=r"typo\.yaml: no such file$"):
        cspipe("params", "check", "typo.yaml")
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        cspipe("import", "nowhere")


def test_errors_are_messages_without_a_traceback(here: Path) -> None:
    here.write_text((ROOT / "params.yaml").read_text().replace("seed: 0", "seed: -4"))
    with pytest.raises(UserError, match="nope"):
        cspipe("params", "use", "nope")
    typed = [Path(sys.executable).with_name("cspipe"), "params", "check"]
    failed = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "seed" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_commands_that_need_prefect_say_how_to_install_it() -> None:
    """In a clone that was installed without its group `flows`."""
    program = "import sys; sys.modules['prefect'] = None; from cspipe.cli.main import main; main()"
    command = [sys.executable, "-c", program, "up"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "--group flows" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(("options", "said"), [([], None), (["--quiet"], "1")])
def test_quiet_is_an_option_of_every_command_and_studies_are_listed_as_json(
    options: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CSPIPE_QUIET", "")  # so that it is put back
    monkeypatch.delenv("CSPIPE_QUIET")
    found = json.loads(cspipe(*options, "study", "--json"))
    assert {"name", "cells", "question"} == set(found[0])
    assert os.environ.get("CSPIPE_QUIET") == said
