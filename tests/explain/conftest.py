"""A DVC project of the same shape as this one, whose stages take no time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """\
import sys
from pathlib import Path
import yaml
from lib import scale

stage, out, *reads = sys.argv[1:]
params = yaml.safe_load(Path("params.yaml").read_text())
files = [file for read in reads for file in sorted(Path(read).rglob("*") if Path(read).is_dir() else [Path(read)])]
text = "".join(file.read_text() for file in files if file.is_file())
value = {"prepare": params["size"], "train": params["train"]["images"] // 10, "report": 0}
name, _, variant = stage.partition("@")
steps = value[name] if not variant else params["variants"][variant]["steps"]
target = Path(out)
target.parent.mkdir(parents=True, exist_ok=True)
if not target.suffix:
    target.mkdir()
    target = target / "result.txt"
target.write_text(f"{stage} {scale.by(steps)}\\n{text}")
if name == "train":
    Path("curves").mkdir(exist_ok=True)
    Path("curves/train.json").write_text('{"loss": %d}' % steps)
if name == "evaluate":
    Path("metrics").mkdir(exist_ok=True)
    Path(f"metrics/{variant}.json").write_text('{"kid": %d}' % steps)
"""
DVC = """\
stages:
  prepare:
    cmd: python work.py prepare prepared raw
    params: [size]
    deps: [raw, lib]
    outs: [prepared]
  train:
    cmd: python work.py train models/main prepared
    params: [train]
    deps: [prepared, lib/scale.py]
    outs: [models/main]
    metrics: [curves/train.json: {cache: false}]
  sample:
    foreach: ${variants}
    do:
      cmd: python work.py sample@${key} samples/${key} models/main
      params: ['variants.${key}']
      deps: [models/main]
      outs: ['samples/${key}']
  evaluate:
    foreach: ${variants}
    do:
      cmd: python work.py evaluate@${key} sheets/${key}.txt samples/${key}
      deps: ['samples/${key}']
      metrics: ['metrics/${key}.json': {cache: false}]
      outs: ['sheets/${key}.txt']
  report:
    cmd: python work.py report report.txt models samples metrics curves
    deps: [models, samples, metrics, curves]
    outs: [report.txt]
"""
PARAMS = "size: 8\ntrain: {images: 100, rate: 0.1}\nvariants:\n  a: {steps: 3}\n  b: {steps: 4}\n"
FILES = {
    "work.py": WORK,
    "dvc.yaml": DVC,
    "params.yaml": PARAMS,
    "lib/__init__.py": "",
    "lib/scale.py": "def by(number):\n    return 2 * number\n",
    "raw/one.txt": "picture\n",
    ".gitignore": "__pycache__/\nprepared\nmodels\nsamples\nsheets\nreport.txt\nreport/\n",
    ".dvcignore": "__pycache__\n",
}


def run_in(folder: Path, *command: str) -> str:
    """Run a command in a project with this environment's programs, and give what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commit(folder: Path) -> None:
    """Commit everything that git does not ignore."""
    run_in(folder, "git", "add", "-A")
    run_in(folder, "git", "commit", "-qm", "work")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `dvc repro`, results committed and pushed, run cache and all, to the remote beside it."""
    folder = tmp_path_factory.mktemp("explain") / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run_in(folder, "git", "init", "-q", "-b", "main")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org"), ("commit.gpgsign", "false")):
        run_in(folder, "git", "config", key, value)
    run_in(folder, "dvc", "init", "-q")
    run_in(folder, "dvc", "remote", "add", "-d", "shared", str(folder.parent / "remote"))
    run_in(folder, "dvc", "repro")
    run_in(folder, "dvc", "push", "--run-cache")
    commit(folder)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, cache and all."""
    folder = tmp_path / "project"
    run_in(tmp_path, "cp", "-a", str(finished), str(folder))
    return folder


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    """A fresh clone of it: nothing in its cache, the remote configured."""
    run_in(tmp_path, "git", "clone", "-q", str(finished), "fresh")
    return tmp_path / "fresh"
