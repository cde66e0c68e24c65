"""The worker's image: its Dockerfile linted, its environment and its entrypoint run for real without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cspipe.runtime.git import git
from flows.pins import read_pins
from infra import pins
from tests.conftest import ROOT
from tests.infra.conftest import INFRA
from tests.stages.conftest import new_repository

DOCKERFILE = INFRA / "worker.Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"
ENTRYPOINT = INFRA / "worker-entrypoint.sh"
SETTINGS = '[project]\nversion = "0.1"\n\n[tool.uv]\n'
PINS = 'constraint-dependencies = [\n    "numpy==1",\n]\n'
USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
"""Before a command: as the image's user."""


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


def test_base_images_get_the_digests_that_docker_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have one, and get others from Docker; without an answer they stay. Nothing else of the files changes."""
    docker = tmp_path / "docker"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    before = texts = [file.read_text() for pattern in pins.IMAGE_FILES for file in INFRA.glob(pattern)]
    assert len(re.findall(r"^(?:FROM|\s*image:) \S+:\S+@sha256:[0-9a-f]{64}\b", "\n".join(texts), re.MULTILINE)) == 4
    for told, kept in ((64 * "1", 64 * "1"), (64 * "2", 64 * "2"), ("none", 64 * "2")):
        asked = '"$*" = "buildx imagetools inspect $4 --format {{.Manifest.Digest}}"'
        docker.write_text(f"#!/bin/sh\n[ {asked} ] && echo sha256:{told}\n")
        docker.chmod(0o755)
        pins.digest.cache_clear()
        texts = [pins.with_digests(text) for text in texts]
        images = re.findall(r"^(?:FROM|\s*image:) (\S+)", "\n".join(texts), re.MULTILINE)
        others = [image for image in images if not image.startswith(("${CSPIPE_", "cspipe-"))]
        assert [image.partition("@")[2] for image in others] == 4 * [f"sha256:{kept}"]
    plain, after = ([re.sub("@sha256:[0-9a-f]{64}", "", text) for text in each] for each in (before, texts))
    assert plain == after


def test_packages_go_into_the_environment_of_the_image(tmp_path: Path) -> None:
    """uv, in the worker's environment variables, installs into /opt/venv, not into Ubuntu's own Python."""
    steps = [(word, rest.replace("/opt/venv", str(tmp_path / "venv"))) for word, rest in instructions()]
    worker = steps[[rest.endswith(" AS worker") for _, rest in steps].index(True) :]
    variables = dict(pair.split("=", 1) for word, rest in worker if word == "ENV" for pair in rest.split())
    made = next(rest.partition("&&")[0] for word, rest in worker if word == "RUN" and rest.startswith("uv venv"))
    mine = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    environment = mine | variables | {"PATH": os.environ["PATH"]}
    python = str(Path(sys.base_prefix) / "bin/python3")
    subprocess.run(made.replace("/usr/bin/python3", python).split(), env=environment, check=True)
    done = subprocess.run(["uv", "pip", "freeze"], env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "venv") in done.stderr


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A git repository with two commits on main."""
    folder = new_repository(tmp_path / "origin", {"pyproject.toml": SETTINGS + PINS})
    commit(folder, "code.py", "first")
    return folder


def commit(folder: Path, name: str, content: str) -> str:
    """Write and commit a file; returns the commit."""
    (folder / name).write_text(content)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


def start(
    origin: Path, home: Path, *command: str, user: list[str] | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the entrypoint as a container would, with the image's pins and the user's home beside the origin."""
    pins = origin.parent / "image-pins.toml"
    pins.write_text(PINS)
    env = {"PATH": os.environ["PATH"], "HOME": str(origin.parent), "CSPIPE_HOME": str(home), "CSPIPE_PINS": str(pins)}
    env |= {"CSPIPE_REPOSITORY": str(origin)} | more
    full = [*(user or []), "sh", str(ENTRYPOINT), *command]
    return subprocess.run(full, env=env, cwd="/", capture_output=True, text=True, timeout=60)


def test_a_worker_starts_in_a_clone_at_the_newest_commit(origin: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = start(origin, home, "sh", "-c", "pwd; git rev-parse HEAD")
    assert first.stdout.split() == [str(home), git(origin, "rev-parse", "main")], first.stderr
    (home / "left-by-a-run").touch()
    newer = commit(origin, "code.py", "newer")
    assert start(origin, home, "git", "rev-parse", "HEAD").stdout.strip() == newer
    assert (home / "left-by-a-run").exists()


def test_a_worker_can_be_held_at_a_tag_or_commit_and_says_what_it_runs(origin: Path, tmp_path: Path) -> None:
    old = git(origin, "rev-parse", "HEAD")
    git(origin, "tag", "v1")
    new = commit(origin, "code.py", "newer")
    for revision in ("v1", old):
        done = start(origin, tmp_path / "home", "git", "rev-parse", "HEAD", CSPIPE_REVISION=revision)
        assert done.stdout.strip() == old
        assert old in done.stderr
    git(origin, "tag", "--force", "v1")
    assert start(origin, tmp_path / "home", "git", "rev-parse", "HEAD", CSPIPE_REVISION="v1").stdout.strip() == new


@pytest.mark.parametrize("revision", ["--upload-pack=touch ran; git-upload-pack", "-q", "no-such-branch"])
def test_a_revision_that_is_none_runs_nothing(origin: Path, tmp_path: Path, revision: str) -> None:
    home = tmp_path / "home"
    for _ in range(2):  # in a new folder, and in a clone
        done = start(origin, home, "echo", "started", CSPIPE_REVISION=revision)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"CSPIPE_REVISION={revision}" in done.stderr
        assert not (home / "ran").exists()
        start(origin, home, "true")


@pytest.fixture
def shared(origin: Path) -> Iterator[Path]:
    """The origin where the image's user can read it; pytest's folder is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="cspipe-volume-"))
    try:
        folder.chmod(0o755)
        shutil.copytree(origin, folder / "user/origin")
        subprocess.run(["chown", "--recursive", "1000:1000", folder / "user"], check=True)
        yield folder / "user/origin"
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a volume of another user")
@pytest.mark.parametrize(
    ("owner", "mode", "lost"),
    [pytest.param(0, 0o2775, True, id="disk"), pytest.param(0, 0o2777, False, id="emptyDir"),
     pytest.param(1000, 0o755, False, id="compose")],
)  # fmt: skip
def test_a_worker_starts_on_a_volume_and_starts_again(
    origin: Path, shared: Path, owner: int, mode: int, lost: bool
) -> None:
    """Volumes as Kubernetes makes them for fsGroup 1000, and as Docker copies the image's folder to a new one."""
    volume = shared.parent.parent / "volume"
    volume.mkdir()
    os.chown(volume, owner, 1000)
    volume.chmod(mode)
    if lost:
        (volume / "lost+found").mkdir(mode=0o700)
    old, new = git(origin, "rev-parse", "HEAD~1"), git(origin, "rev-parse", "HEAD")
    for revision, expected in ((old, old), ("main", new), ("main", new)):
        done = start(shared, volume, "git", "rev-parse", "HEAD", user=USER, CSPIPE_REVISION=revision)
        assert done.stdout.strip() == expected, done.stderr
        (volume / ".git/index.lock").touch()  # a git that was killed


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


ASK_GIT = "printf 'protocol=%s\\nhost=%s\\n\\n' {} {} | git credential fill"
ASK_DVC = f"{sys.executable} -c 'from scmrepo.git.credentials import Credential as C; print(C(url=\"{{}}://{{}}\").fill().password)'"


@pytest.mark.parametrize("ask", [ASK_GIT, ASK_DVC], ids=["git", "dvc"])
def test_the_token_reaches_the_repositorys_host_alone_and_no_file(origin: Path, tmp_path: Path, ask: str) -> None:
    (tmp_path / ".gitconfig").write_text(f'[url "{origin}"]\n\tinsteadOf = https://me@example.org/you/cspipe.git\n')
    more = {"CSPIPE_GIT_TOKEN": "never-to-be-written", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "false"}
    more |= {"CSPIPE_REPOSITORY": "https://me@example.org/you/cspipe.git"}
    places = {("https", "example.org"): True, ("http", "example.org"): False, ("https", "elsewhere.org"): False}
    for place, given in places.items():
        done = start(origin, tmp_path / "home", "sh", "-c", ask.format(*place), **more)
        assert ("never-to-be-written" in done.stdout) is given, done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(b"never-to-be-written" in file.read_bytes() for file in files)
