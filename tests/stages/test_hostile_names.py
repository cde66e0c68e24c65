"""Names of variants reach DVC before a stage can refuse them: what bare `dvc repro` does with hostile ones."""

import sys
from itertools import product
from pathlib import Path

import pytest

from cspipe.runtime.ends import FOLDER, StageEnd, read_end, write_end
from tests.conftest import Tree, change
from tests.stages.conftest import new_clone, run_in

SHELL = 'x "$(touch PWNED)" `touch PWNED`; touch PWNED\n touch PWNED'
VARIANTS = [SHELL, "../mine", "a/../../yours"]
INNOCENT = ("data/prepared/index.json", "models/main/config.json", "mine/a", "mine.png", "mine.json", "yours/a")


@pytest.fixture
def project(tmp_path: Path, small: Tree) -> Path:
    """A clone where a stage of any variant has something to read, and a person's own files."""
    for name in INNOCENT:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    variants = dict.fromkeys(VARIANTS, small["variants"]["ddim-100"])
    return new_clone(tmp_path, change(small, {"variants": variants}))


def test_a_hostile_name_runs_and_removes_nothing(project: Path) -> None:
    python = project / "bin/python"  # in the place of the stage, says how it was called
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$@" > called\n')
    python.chmod(0o755)
    dvc = ("env", f"PATH={python.parent}:/usr/bin:/bin", sys.executable, "-m", "dvc", "repro", "--single-item")
    called = project / "called"
    for name, kind in product(VARIANTS, ("sample", "evaluate")):
        (project / "samples" / name).mkdir(parents=True, exist_ok=True)
        called.unlink(missing_ok=True)
        run_in(project, *dvc, f"{kind}@{name}", check=False)
        assert not list(project.rglob("PWNED"))
        assert all((project / innocent).exists() for innocent in INNOCENT)
        if name == SHELL:
            assert called.read_text() == f"-m|cspipe.stages.{kind}|{kind}@{name}|"
        else:
            assert not called.exists()


def test_how_a_stage_of_a_hostile_name_ended_is_written_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_end(StageEnd("sample@../../../x"))
    assert [file.parent for file in tmp_path.rglob("*x.json")] == [tmp_path / FOLDER]
    assert read_end(tmp_path, "sample@../../../x") == StageEnd("sample@../../../x")
