"""Prefect's server on Postgres, set up as compose.yaml says. The module takes two minutes on two cores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.flows.server import end, free_port, wait_for
from tests.infra.conftest import INFRA, Tree
from tests.infra.postgres import PASSWORD, Postgres, binaries, running_postgres
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

    def get(self, path: str, auth: str | None) -> httpx.Response:
        """The answer to a GET of somebody with this auth string."""
        user, _, password = (auth or "").partition(":")
        return httpx.get(self.api + path, auth=(user, password) if auth else None, timeout=5)

    def healthy(self) -> bool:
        """What health checks ask."""
        try:
            return self.get("/health", None).status_code == 200
        except httpx.TransportError:
            return False


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
    port = free_port()
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
        wait_for(found.healthy, 120)
        yield found
    finally:
        end([process])


def test_the_server_of_compose_answers_only_who_knows_the_auth_string(server: Server) -> None:
    answers = {auth: server.get("/admin/settings", auth) for auth in (None, "admin:wrong", server.auth)}
    assert [answer.status_code for answer in answers.values()] == [401, 401, 200]
    settings = answers[server.auth].json()["server"]
    assert settings["analytics_enabled"] is False
    assert settings["concurrency"]["lease_storage"].endswith("filesystem"), "a restart loses no leases"


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
    # task runs reach the database through the event stream, a little later
    wait_for(lambda: postgres.query(f"select count(*) {tasks}") == str(CLIENTS * TASKS), 60)
    assert "locked" not in server.log.read_text()


def test_a_dump_is_brought_back_by_the_documented_commands(postgres: Postgres, tmp_path: Path) -> None:
    page = (INFRA.parent / "docs/operations.md").read_text()
    [dump] = re.findall(r"postgres-0 -- (pg_dump .*) > prefect\.dump", page)
    [restore] = re.findall(r"`(pg_restore [^`]*)`", page)

    def run(command: str, cluster: Postgres, **files: Any) -> None:
        program, *options = command.split()
        place = ["--host=127.0.0.1", f"--port={cluster.port}", *options]
        subprocess.run([cluster.bin / program, *place], env=os.environ | {"PGPASSWORD": PASSWORD}, check=True, **files)

    postgres.query("create table history as select * from generate_series(1, 1000) as number")
    with (tmp_path / "prefect.dump").open("wb") as file:
        run(dump, postgres, stdout=file)
    with running_postgres(postgres.bin) as other, (tmp_path / "prefect.dump").open("rb") as file:
        run(restore, other, stdin=file)
        assert other.query("select sum(number) from history") == "500500"


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
