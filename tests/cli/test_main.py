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
from tests.conftest import ROOT


def cspipe(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("cspipe")
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_help_comes_without_torch() -> None:
    code = "import sys; from cspipe.cli.main import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "explain" in done.stdout
    assert "torch" not in done.stdout.splitlines()[-1].split()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert CliRunner().invoke(main.app, ["--version"]).stdout == f"cspipe {version('cspipe')}\n"


def test_demo_is_the_params_file_as_shipped() -> None:
    assert read_preset("demo").text() == (ROOT / "params.yaml").read_text()


def test_a_preset_can_be_listed_shown_used_and_checked(tmp_path: Path) -> None:
    name = "celebahq256-inpaint"  # the others: tests/config
    assert name in cspipe("params", "list", cwd=tmp_path).stdout
    assert name in json.loads(cspipe("params", "list", "--json", cwd=tmp_path).stdout)
    shown = cspipe("params", "show", name, cwd=tmp_path).stdout
    assert f"# {name}" in shown
    assert yaml.safe_load(shown) == read_preset(name).tree
    assert "# main net:" in shown
    assert cspipe("params", "use", name, cwd=tmp_path).returncode == 0
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == read_preset(name).tree
    assert cspipe("params", "check", cwd=tmp_path).stdout.startswith("params.yaml: fine")


def test_changes_of_a_person_are_not_overwritten_unasked(tmp_path: Path) -> None:
    for mine in (b"mine: 1\n", b"mine: \xff\n"):
        (tmp_path / "params.yaml").write_bytes(mine)
        refused = cspipe("params", "use", "demo", cwd=tmp_path)
        assert refused.returncode == 1
        assert "--force" in refused.stderr
        assert (tmp_path / "params.yaml").read_bytes() == mine
    assert cspipe("params", "use", "demo", "--force", cwd=tmp_path).returncode == 0
    assert cspipe("params", "use", "demo", cwd=tmp_path).returncode == 0


def test_errors_are_messages_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text().replace("seed: 0", "seed: -4"))
    for arguments, key in ((("params", "use", "nope"), "nope"), (("params", "check"), "seed"), (("explain",), "DVC")):
        failed = cspipe(*arguments, cwd=tmp_path)
        assert failed.returncode == 1
        assert key in failed.stderr
        assert "Traceback" not in failed.stderr


def test_commands_that_need_prefect_say_how_to_install_it() -> None:
    """In a clone that was installed without its group `flows`."""
    program = "import sys; sys.modules['prefect'] = None; from cspipe.cli.main import main; main()"
    command = [sys.executable, "-c", program, "up"]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "--group flows" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_studies_are_listed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = json.loads(CliRunner().invoke(main.app, ["study", "--json"], catch_exceptions=False).stdout)
    assert {"name", "cells", "question"} == set(found[0])


@pytest.mark.parametrize(("options", "said"), [([], None), (["--quiet"], "1")])
def test_quiet_is_an_option_of_every_command(
    options: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSPIPE_QUIET", "")  # so that it is put back
    monkeypatch.delenv("CSPIPE_QUIET")
    CliRunner().invoke(main.app, [*options, "params", "list"], catch_exceptions=False)
    assert os.environ.get("CSPIPE_QUIET") == said
