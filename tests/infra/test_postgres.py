"""Prefect's server on Postgres, set up as compose.yaml says. The module takes two minutes on two cores."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.infra.conftest import INFRA, Tree
from tests.infra.postgres import Postgres, binaries, running_postgres
from tests.s3_server import S3

BIN = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BIN is None, reason="Postgres is not installed (Debian: apt-get install postgresql)"),
]

CLIENTS, TASKS = 6, 10
FLOW = f"""
import sys
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

@task(cache_policy=NO_CACHE)
def double(number):
    return 2 * number

@flow(name="client-" + sys.argv[1])
def client():
    return sum(double.map(range({TASKS})).result())

assert client() == {TASKS * (TASKS - 1)}
"""


@dataclass(frozen=True)
class Server:
    """Prefect's server under test."""

    api: str
    auth: str
    log: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
        """Environment of its clients."""
        return os.environ | {
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.auth,
            "PREFECT_HOME": str(self.home / "client"),
            "PREFECT_PLUGINS_ENABLED": "false",
        }

    def status(self, path: str, auth: str | None) -> int:
        """HTTP status of a GET."""
        request = urllib.request.Request(self.api + path)
        if auth is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A cluster of this module's own."""
    assert BIN is not None
    with running_postgres(BIN) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(postgres: Postgres, compose: Tree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The command and the environment of compose.yaml, with this machine's addresses."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = compose["services"]["server"]
    own = {
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url,
        "PREFECT_PLUGINS_ENABLED": "false",
    }
    auth = service["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    found = Server(f"http://127.0.0.1:{port}/api", auth, folder / "log", folder)
    with found.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *service["command"]], env=os.environ | service["environment"] | own, cwd=folder,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        patience = time.monotonic() + 120
        while found.status("/health", None) != 200:
            assert process.poll() is None, found.log.read_text()
            assert time.monotonic() < patience, found.log.read_text()
            time.sleep(0.5)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_the_server_of_compose_answers_only_who_knows_the_auth_string(server: Server) -> None:
    assert server.status("/health", None) == 200  # what health checks ask
    assert server.status("/admin/settings", None) == 401
    assert server.status("/admin/settings", "admin:wrong") == 401
    assert server.status("/admin/settings", server.auth) == 200


def test_the_server_of_compose_keeps_leases_on_disk_and_sends_no_telemetry(server: Server) -> None:
    request = urllib.request.Request(server.api + "/admin/settings")
    request.add_header("Authorization", "Basic " + base64.b64encode(server.auth.encode()).decode())
    with urllib.request.urlopen(request, timeout=5) as answer:
        settings = json.loads(answer.read())["server"]
    assert settings["analytics_enabled"] is False
    assert settings["concurrency"]["lease_storage"].endswith("filesystem")


def test_six_clients_at_once_end_well_on_postgres(server: Server, postgres: Postgres, tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(FLOW)
    clients = [
        subprocess.Popen(
            [sys.executable, str(script), str(number)], env=server.env, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(CLIENTS)
    ]  # fmt: skip
    for client in clients:
        output, _ = client.communicate(timeout=240)
        assert client.returncode == 0, output
    ran = "from flow_run join flow on flow.id = flow_run.flow_id where flow.name like 'client-%'"
    assert postgres.query(f"select count(*) {ran} and state_type = 'COMPLETED'") == str(CLIENTS)
    tasks = f"from task_run where state_type = 'COMPLETED' and flow_run_id in (select flow_run.id {ran})"
    patience = time.monotonic() + 60  # task runs reach the database through the event stream, a little later
    while postgres.query(f"select count(*) {tasks}") != str(CLIENTS * TASKS) and time.monotonic() < patience:
        time.sleep(0.5)
    assert postgres.query(f"select count(*) {tasks}") == str(CLIENTS * TASKS)
    assert "locked" not in server.log.read_text()


def test_names_are_found_by_trigrams(server: Server, postgres: Postgres) -> None:
    assert postgres.query("select count(*) from pg_extension where extname = 'pg_trgm'") == "1"
    assert int(postgres.query("select count(*) from pg_indexes where indexdef like '%gin_trgm_ops%'")) > 0


def test_setup_makes_bucket_and_pools_and_may_run_again(server: Server, s3: S3, tmp_path: Path) -> None:
    project = _project(tmp_path / "clone")
    place = {"CSPIPE_S3": "s3://made-by-setup/main", "CSPIPE_WORKER_IMAGE": "place/worker:7"}
    env = server.env | s3.env | place
    first = _setup(project, env, "kubernetes")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "made-by-setup" in {found["Name"] for found in s3.client().list_buckets()["Buckets"]}
    gpu = _pool(env, "gpu")
    assert gpu["type"] == "kubernetes"
    assert gpu["base_job_template"]["variables"]["properties"]["image"]["default"] == "place/worker:7"
    assert _pool(env, "cpu")["type"] == "process"
    again = _setup(project, env, "kubernetes")
    assert again.returncode == 0, again.stdout + again.stderr


def test_setup_says_in_one_line_that_keys_are_wrong(server: Server, s3: S3, tmp_path: Path) -> None:
    env = server.env | s3.env | {"CSPIPE_S3": f"s3://{s3.new_bucket()}/main", "AWS_SECRET_ACCESS_KEY": "wrong"}
    done = _setup(_project(tmp_path / "clone"), env, "process")
    assert done.returncode == 1
    assert "SignatureDoesNotMatch" in done.stderr
    assert "Traceback" not in done.stderr


def _project(folder: Path) -> Path:
    """A clone with a deployment that needs nothing of the pipeline."""
    folder.mkdir()
    (folder / "nothing.py").write_text("from prefect import flow\n\n@flow\ndef nothing(): pass\n")
    (folder / "prefect.yaml").write_text(
        "deployments:\n- {name: nothing, entrypoint: 'nothing.py:nothing', work_pool: {name: cpu}, pull: []}\n"
    )
    return folder


def _setup(project: Path, env: dict[str, str], kind: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(INFRA / "setup.py"), kind]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=240)


def _pool(env: dict[str, str], name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "prefect", "work-pool", "inspect", name, "--output", "json"]
    return json.loads(subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout)
