"""`cspipe doctor`, on real servers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from cspipe.cli.doctor import finding
from tests.conftest import ROOT, Tree, change
from tests.fixtures import serving
from tests.flows.server import Server, prefect_server, wait_for, write_project
from tests.s3_server import S3
from tests.stages.conftest import commit, new_repository, run_in

NOBODY = "http://127.0.0.1:9"


def findings(folder: Path, **variables: str) -> tuple[int, dict[str, list[str]]]:
    """Exit status, and states and texts by name of the check."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CSPIPE_", "PREFECT_"))}
    here = Path(sys.executable).parent
    environment = clean | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"} | variables
    done = subprocess.run([here / "cspipe", "doctor", "--json"], cwd=folder, env=environment, capture_output=True)
    found: dict[str, list[str]] = {}
    for each in json.loads(done.stdout):
        found.setdefault(each["name"], []).append(f"{each['state']}: {each['text']}")
        assert each["fix"] or each["state"] == "ok", each
    return done.returncode, found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_repository(tmp_path_factory.mktemp("doctor") / "project", {"dvc.yaml": "stages: {}\n"})
    shutil.copy(ROOT / "params.yaml", folder)
    commit(folder, "start")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        write_project(server.folder, "  []")
        for pool in ("cpu", "gpu"):
            server.prefect("work-pool", "create", pool, "--type", "process")
        server.worker("one")
        with server.client() as client:
            wait_for(lambda: client.read_workers_for_work_pool("cpu"), 60)
        yield server


@pytest.mark.slow
def test_all_that_is_well_is_told_by_real_calls(project: Path, server: Server, s3: S3) -> None:
    bucket = s3.new_bucket()
    run_in(project, "dvc", "remote", "add", "-f", "-d", "--local", "s3", f"s3://{bucket}/prefix/dvc")
    names = {**s3.env, "CSPIPE_S3": f"s3://{bucket}/prefix", "PREFECT_API_URL": server.url}
    status, found = findings(project, **names)
    assert status == 0
    for name in ("DVC remote", "S3", "project", "torch", "Python"):
        assert {text.partition(":")[0] for text in found[name]} == {"ok"}, found[name]
    assert [text for text in found["Prefect"] if text.startswith("ok") and "cpu" in text]
    assert [text for text in found["Prefect"] if text.startswith("warning") and "gpu" in text]
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket)  # nothing is left


@pytest.mark.slow
@pytest.mark.parametrize("broken", [{"AWS_ENDPOINT_URL": NOBODY}, {"AWS_SECRET_ACCESS_KEY": "wrong"}])
def test_servers_that_do_not_serve_are_problems(broken: dict[str, str], project: Path, s3: S3) -> None:
    bucket = s3.new_bucket()
    run_in(project, "dvc", "remote", "add", "-f", "-d", "--local", "s3", f"s3://{bucket}/prefix/dvc")
    urls = {"CSPIPE_S3": f"s3://{bucket}/prefix", "PREFECT_API_URL": f"{NOBODY}/api"}
    status, found = findings(project, **{**s3.env, **urls, **broken})
    assert status == 1
    for name in ("DVC remote", "S3", "Prefect"):
        assert [text.partition(":")[0] for text in found[name]] == ["problem"], found[name]
        assert s3.env["AWS_SECRET_ACCESS_KEY"] not in str(found)


@pytest.mark.slow
def test_outside_of_a_project_one_line_says_so(tmp_path: Path) -> None:
    status, found = findings(tmp_path)
    assert status == 1
    assert [name for name, texts in found.items() if "no dvc.yaml here or above" in str(texts)] == ["project"]
    assert "DVC remote" not in found


def test_no_password_of_an_address_is_shown() -> None:
    found = finding("Prefect", "ok", "http://me:hunter2@host:4200/api has 2 work pools")
    assert found["text"] == "http://host:4200/api has 2 work pools"


class Viewer(BaseHTTPRequestHandler):
    """Takes any key for Weights & Biases."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"data": {"viewer": {"id": "1", "username": "me", "entity": "me", "flags": "{}"}}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.mark.slow
def test_a_key_for_weights_and_biases_is_tried_and_not_stored(project: Path, tmp_path: Path, demo: Tree) -> None:
    shutil.copytree(project, tmp_path / "project")
    params = change(demo, {"tracking.wandb": "online"})
    (tmp_path / "project/params.yaml").write_text(yaml.safe_dump(params))
    with serving(Viewer) as url:
        names = {"WANDB_BASE_URL": url, "NETRC": str(tmp_path / "netrc")}
        _, found = findings(tmp_path / "project", WANDB_API_KEY="a" * 40, **names)
    assert found["W&B"] == ["ok: the key is valid"]
    assert not (tmp_path / "netrc").exists()
