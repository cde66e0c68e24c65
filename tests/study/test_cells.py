"""Cells that only sleep, by real DVC: several at once, one that fails, and what a killed study leaves."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from cspipe.study import cells
from cspipe.study.cells import MARK, printed, run_cells
from cspipe.study.repository import Repository, experiments
from tests.conftest import ROOT
from tests.stages.conftest import new_repository, run_in
from tests.stages.test_preemption import wait_until

pytestmark = pytest.mark.slow
PIPELINE = """\
stages:
  evaluate:
    foreach: [v]
    do:
      cmd: echo sleeps && mkdir -p metrics curves && sleep ${seconds} && echo ${seconds} > metrics/v.json
      params: [seconds]
      metrics: [{metrics/v.json: {cache: false}}]
"""
RUNNING = "refs/exps/exec/EXEC_BASELINE"
"""Git reference of a `dvc exp run` that a person has started; whoever removes it ends that run with an error."""
PROGRAM = """
from pathlib import Path
from types import SimpleNamespace
from cspipe.study.cells import run_cells
from cspipe.study.repository import Repository
cell = SimpleNamespace(name="one", tree={{"seconds": 300}}, variants=["v"])
list(run_cells(Repository(Path("{root}"), "{commit}", ()), Path("{folder}"), [cell], 1, print))
"""
Run = Callable[..., Any]


def cell(name: str, seconds: object) -> Any:
    return SimpleNamespace(name=name, tree={"seconds": seconds}, variants=["v"])


def processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


@pytest.fixture
def run(tmp_path: Path, folder: Path) -> Run:
    """run([cell, ...], jobs): how they end, one after the other."""
    root = new_repository(tmp_path / "root", {"params.yaml": "seconds: 1\n", "dvc.yaml": PIPELINE, "curves/a": ""})
    (root / "params.yaml").write_text("a person edits it")

    def run(chosen: list[Any], jobs: int = 1, tell: Callable[[str, str], None] = print) -> Any:
        head = run_in(root, "git", "rev-parse", "HEAD").stdout.strip()
        return closing(run_cells(Repository(root, head, ()), folder, chosen, jobs, tell))

    return run


def test_a_cell_that_fails_does_not_stop_the_others(
    tmp_path: Path, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "SECONDS_BETWEEN_LINES", 2.0)
    root, told = tmp_path / "root", list[tuple[str, str]]()
    run_in(root, "git", "update-ref", RUNNING, "HEAD")
    (root / ".git/hooks/post-checkout").write_text("#!/bin/sh\nexit 1\n")
    (root / ".git/hooks/post-checkout").chmod(0o755)
    four = [cell("one", 6), cell("bad", "x"), cell("no..reference", 1), cell("two", 7)]
    with run(four, 2, lambda name, line: told.append((name, line))) as ends:
        ended = {each.cell.name: each for each in ends}
    assert {name: each.done for name, each in ended.items()} == {
        "one": True, "bad": False, "no..reference": False, "two": True
    }  # fmt: skip
    assert "invalid time interval" in ended["bad"].log.read_text()
    assert printed(ended["no..reference"].log)[-1].startswith("not saved: git update-ref")
    assert ("one", "sleeps") in told
    assert {"one", "two"} <= experiments(root).keys()
    assert run_in(root, "git", "show", f"{experiments(root)['two']}:metrics/v.json").stdout == "7\n"
    assert not list((folder / "worktrees").iterdir())
    assert run_in(root, "git", "worktree", "list").stdout.count("\n") == 1
    assert run_in(root, "git", "for-each-ref", "--format=%(refname)", "refs/exps/exec").stdout == f"{RUNNING}\n"
    assert "one" in run_in(root, "dvc", "exp", "list", "--all-commits").stdout


def test_what_a_killed_study_left_is_ended_and_a_new_result_replaces_the_old(
    tmp_path: Path, folder: Path, run: Run
) -> None:
    with run([cell("one", 1)]) as ends:
        assert next(ends).done
    before = experiments(tmp_path / "root")
    commit = next(iter(before.values())).split("/")
    program = PROGRAM.format(root=tmp_path / "root", commit="".join(commit[2:4]), folder=folder)
    killed = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL)
    wait_until(lambda: any(process.name() == "sleep" for process in processes_of(folder)), killed)
    killed.kill()
    killed.wait()
    assert processes_of(folder)
    run_in(tmp_path / "root", "git", "worktree", "lock", str(folder / "worktrees/one"))  # as of a git that was killed
    run_in(tmp_path / "root", "git", "commit", "-q", "--allow-empty", "-m", "next")
    with run([cell("one", 2)]) as ends:
        assert next(ends).done
    assert processes_of(folder) == []
    refs = run_in(tmp_path / "root", "git", "for-each-ref", "refs/exps/*/*/one").stdout.splitlines()
    assert len(refs) == 1
    assert experiments(tmp_path / "root") != before
