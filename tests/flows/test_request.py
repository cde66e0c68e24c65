"""What a run is asked to do is refused before there is a run, in one line; what this clone cannot tell is let go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from cspipe.runtime.errors import UserError
from flows.local.record import Stack
from flows.request import check
from flows.workspace import git
from tests.conftest import ROOT
from tests.flows.server import Server, prefect_server, write_project

API = "http://127.0.0.1:4200/api"
DEPLOYMENTS = """
  - {name: train-demo, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, parameters: {preset: demo}}
  - {name: train-broken, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, parameters: {preset: broken}}
"""
PIPELINE = """
from prefect import flow

@flow(name="pipeline")
def pipeline(preset: str = "demo", revision: str | None = None, overrides: dict | None = None) -> None:
    pass
"""


def committed(folder: Path) -> Path:
    """A clone that has the presets, and nothing else that is read."""
    shutil.copytree(ROOT / "cspipe/config/presets", folder / "cspipe/config/presets", dirs_exist_ok=True)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "presets")
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone in which the workers of the server work."""
    monkeypatch.setenv("CSPIPE_HOME", str(tmp_path))
    clone = committed(tmp_path)
    Stack(clone, "mark", API).save()
    with temporary_settings({PREFECT_API_URL: API}):
        yield clone


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize(
    ("flow", "parameters", "says"),
    [
        ("pipeline", {"overrides": {"train.imagez": 1}}, "train.imagez"),
        ("pipeline", {"overrides": {"variants": {"x $(touch PWNED)": {}}}}, "x $(touch PWNED)"),
        ("pipeline", {"preset": "../demo"}, "../demo"),
        ("sweep", {"grid": {"train.micro_batch": [32, 7]}}, "train.micro_batch"),
        ("sweep", {"grid": [1]}, "grid"),
    ],
)
def test_what_would_fail_is_refused(flow: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        check(flow, parameters)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("clone")
def test_what_would_run_is_let_go() -> None:
    check("pipeline", {"preset": "demo", "overrides": {"train.images": 1024}})
    check("sweep", {"grid": {"train.batch": [64, 128], "train.micro_batch": [64]}})  # 64 alone would not divide 32


def test_what_this_clone_cannot_tell_is_let_go(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check("pipeline", {"preset": "nope", "revision": "of-a-colleague"})
    (clone / "cspipe/config/presets/demo.yaml").write_text(
        ""
    )  # other code than the revision's may read other parameters
    check("pipeline", {"preset": "nope"})
    monkeypatch.setenv("CSPIPE_HOME", str(clone.parent))
    check("pipeline", {"preset": "nope"})


def test_of_a_server_elsewhere_tags_and_commits_alone_are_known(clone: Path) -> None:
    """Its workers may have a newer HEAD, with presets that this clone lacks."""
    git(clone, "tag", "v1")
    with temporary_settings({PREFECT_API_URL: "http://elsewhere:4200/api"}):
        check("pipeline", {"preset": "nope"})
        check("pipeline", {"preset": "nope", "revision": "master"})
        for revision in ("v1", git(clone, "rev-parse", "HEAD")):
            with pytest.raises(UserError, match="'nope'"):
                check("pipeline", {"preset": "nope", "revision": revision})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with prefect_server(tmp_path_factory.mktemp("request")) as server:
        write_project(server.folder, DEPLOYMENTS)
        (server.folder / "pipeline.py").write_text(PIPELINE)
        committed(server.folder)
        Stack(server.folder, "mark", server.url).save()
        server.prefect("work-pool", "create", "cpu", "--type", "process")
        server.prefect("--no-prompt", "deploy", "--all")
        yield server


def test_a_refused_run_is_not_created_and_a_good_one_is(server: Server) -> None:
    for typed, says in [
        (("train-demo", "-p", "preset=nope"), "'nope'"),
        (("pipeline/train-demo", "--params", '{"overrides": {"train.imagez": 1}}'), "train.imagez"),
        (("train-broken", "-p", "overrides={}"), "'broken'"),
    ]:
        done = server.prefect("deployment", "run", *typed, check=False)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("cspipe: ")
        assert says in last
    server.prefect("deployment", "run", "train-demo", "-p", 'overrides={"train.images": 1024}')
    with server.client() as client:
        assert [run.parameters["overrides"] for run in client.read_flow_runs()] == [{"train.images": 1024}]
