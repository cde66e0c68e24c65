"""The worker's image: its Dockerfile linted, its environment and its entrypoint run for real without Docker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows.pins import read_pins
from tests.conftest import ROOT
from tests.infra.conftest import INFRA

DOCKERFILE = INFRA / "worker.Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"
ENTRYPOINT = INFRA / "worker-entrypoint.sh"
SETTINGS = '[project]\nversion = "0.1"\n\n[tool.uv]\n'
PINS = 'constraint-dependencies = [\n    "numpy==1",\n]\n'


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_build_sees_what_it_copies_and_nothing_more() -> None:
    lines = (INFRA / "worker.Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source for word, rest in instructions() if word == "COPY"
        for source in re.sub(r"--\S+ ", "", rest).split()[:-1]
    }  # fmt: skip
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A git repository with one commit on main."""
    folder = tmp_path / "origin"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(folder))
    commit(folder, "pyproject.toml", SETTINGS + PINS)
    return folder


def git(folder: Path, *arguments: str) -> str:
    """What a git command prints."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, name: str, content: str) -> str:
    """Write and commit a file; returns the commit."""
    (folder / name).write_text(content)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


def start(origin: Path, home: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint as a container would, with the image's pins beside the origin."""
    pins = origin.parent / "image-pins.toml"
    pins.write_text(PINS)
    env = {"PATH": os.environ["PATH"], "HOME": str(origin.parent), "CSPIPE_HOME": str(home), "CSPIPE_PINS": str(pins)}
    env |= {"CSPIPE_REPOSITORY": str(origin)} | more
    return subprocess.run(["sh", str(ENTRYPOINT), *command], env=env, capture_output=True, text=True, timeout=60)


def test_a_worker_starts_in_a_clone_at_the_newest_commit(origin: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = start(origin, home, "sh", "-c", "pwd; git rev-parse HEAD")
    assert first.stdout.split() == [str(home), git(origin, "rev-parse", "main")], first.stderr
    (home / "left-by-a-run").touch()
    newer = commit(origin, "code.py", "newer")
    assert start(origin, home, "git", "rev-parse", "HEAD").stdout.strip() == newer
    assert (home / "left-by-a-run").exists()


def test_a_worker_can_be_held_at_a_tag(origin: Path, tmp_path: Path) -> None:
    old = git(origin, "rev-parse", "HEAD")
    git(origin, "tag", "v1")
    commit(origin, "code.py", "newer")
    assert start(origin, tmp_path / "home", "git", "rev-parse", "HEAD", CSPIPE_REVISION="v1").stdout.strip() == old


def test_a_revision_with_other_pins_than_the_image_is_refused(origin: Path, tmp_path: Path) -> None:
    commit(origin, "pyproject.toml", SETTINGS.replace("0.1", "0.2") + PINS)
    assert start(origin, tmp_path / "home", "echo", "started").stdout == "started\n"
    commit(origin, "pyproject.toml", SETTINGS + PINS.replace("==1", "==2"))
    done = start(origin, tmp_path / "home", "echo", "started")
    assert (done.returncode, done.stdout) == (1, "")
    assert "rebuild the image" in done.stderr


def test_the_image_keeps_the_pins_and_nothing_else() -> None:
    """What the Dockerfile keeps of the real pyproject.toml is the list that uv reads, whole."""
    kept = next(rest for word, rest in instructions() if word == "RUN" and "pins.toml" in rest)
    command = re.search(r"sed -n .* pyproject\.toml", kept)
    assert command
    assert command[0] in ENTRYPOINT.read_text()
    text = subprocess.run(["sh", "-c", command[0]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert tomllib.loads(text) == {"constraint-dependencies": read_pins((ROOT / "pyproject.toml").read_text())}


def test_the_token_reaches_git_and_no_file(origin: Path, tmp_path: Path) -> None:
    ask = "printf 'protocol=https\\nhost=example.org\\n\\n' | git credential fill"
    more = {"CSPIPE_GIT_TOKEN": "never-to-be-written", "GIT_TERMINAL_PROMPT": "0"}
    done = start(origin, tmp_path / "home", "sh", "-c", ask, **more)
    assert "password=never-to-be-written" in done.stdout, done.stderr
    files = [file for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert files
    assert not any(b"never-to-be-written" in file.read_bytes() for file in files)
