"""A temporary clone of the repository with small parameters, and the commands people type in it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from filelock import FileLock

from cspipe.runtime.ends import End
from tests.conftest import ROOT, Tree, change
from tests.stages.forked import run_modules

IDENTITY = tuple(
    f"git config {setting}" for setting in ("user.name test", "user.email test@example.org", "commit.gpgsign false")
)


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}


def run_in(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a clone, with this environment's programs and the clone's own cspipe."""
    env = environment(folder)
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def new_clone(folder: Path, params: Tree) -> Path:
    """The working tree's files in a git repository of their own, with other parameters and no results."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        source, target = ROOT / name, folder / name
        if source.is_file() and not name.startswith(("curves/", "metrics/", "dvc.lock")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in ("git init -q -b main", *IDENTITY):
        run_in(folder, *command.split())
    commit(folder, "start")
    return folder


@cache
def empty_repository() -> TemporaryDirectory[str]:
    """A repository of git and DVC in which tests can commit, to be copied: DVC needs most of a second to make one."""
    folder = TemporaryDirectory()
    for command in ("git init -q -b main", "dvc init -q", *IDENTITY):
        run_in(Path(folder.name), *command.split())
    return folder


def new_repository(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """A copy of that, as it is or with files in one commit; the folder is made."""
    shutil.copytree(empty_repository().name, folder)
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if files:
        commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    run_in(folder, "git", "add", "-A")
    run_in(folder, "git", "commit", "-qm", message)


def stage(folder: Path, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = run_modules(folder, environment(folder), [(f"cspipe.stages.{name}", *arguments)])
    assert done.returncode == 0 or not check, f"{name}\n{done.stdout}\n{done.stderr}"
    return done


def stages(folder: Path, *lines: str) -> None:
    """Run stages such as "sample cs-10" one after the other in one process."""
    done = run_modules(folder, environment(folder), [f"cspipe.stages.{line}".split() for line in lines])
    assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"


def start(folder: Path, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a stage in a process of its own."""
    command, pipe = [sys.executable, "-m", f"cspipe.stages.{name}", *arguments], subprocess.PIPE
    env = {**os.environ, **environment, "PYTHONPATH": str(folder)}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    patience = time.monotonic() + 400
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.02)


def states(folder: Path, name: str) -> list[Path]:
    """States of training, or batches of samples, that a stage has kept."""
    return [file for file in (folder / ".cspipe/states" / name).glob("*/*") if file.suffix in {".pt", ".npz"}]


def begun(folder: Path, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A stage in a process of its own, which has just kept its first state."""
    process = start(folder, name, *arguments, **environment)
    wait_until(lambda: states(folder, name), process)
    return process


def set_params(folder: Path, changes: Tree) -> None:
    """Change params.yaml: set_params(clone, {"train.batch": 4})."""
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text()), changes), sort_keys=False))


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """refusal(folder, "sample", "cs-10"): what a stage says, in this process, that cannot begin; fails for a bug."""

    def refusal(folder: Path, name: str, *arguments: str, end: End = End.FAILED) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as stopped:
            import_module(f"cspipe.stages.{name}").main()
        assert stopped.value.code == end
        return capsys.readouterr().err

    return refusal


@pytest.fixture(scope="session")
def two_variants(small: Tree) -> Tree:
    """The small parameters with a plain and a compensated variant."""
    variants = {name: small["variants"][name] for name in ("ddim-100", "cs-10")}
    return change(small, {"variants": variants, "train.images": 96})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str, two_variants: Tree) -> Path:
    """A clone in which every stage has run once, and its results are committed. Tests leave it as it is.

    Made once for all of pytest's workers.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished" / "clone"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.parent / "lock"):
        if not (done := folder.parent / "done").exists():
            new_clone(folder, two_variants)
            each = [f"{name} {variant}" for name in ("sample", "evaluate") for variant in two_variants["variants"]]
            stages(folder, "prepare", "train", "compensate", *each, "report")
            run_in(folder, "dvc", "commit", "--force")
            commit(folder, "results")
            done.touch()
    return folder


@pytest.fixture
def clone(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished clone, cache and all, to do things to."""
    folder = tmp_path / "clone"
    run_in(tmp_path, "cp", "-a", str(finished), str(folder))
    return folder
