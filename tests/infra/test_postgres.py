"""Prefect's server on Postgres, set up as compose.yaml says. The module takes two minutes on two cores."""

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

from tests.flows.server import end, free_port, wait_for
from tests.infra.conftest import INFRA, Tree
from tests.infra.postgres import PASSWORD, Postgres, binaries, running_postgres

BIN = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BIN is None, reason="Postgres is not installed (Debian: apt-get install postgresql)"),
]


@dataclass(frozen=True)
class Server:
    api: str
    auth: str
    log: Path
    home: Path

    @property
    def env(self) -> dict[str, str]:
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
        try:
            return self.get("/health", None).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
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


def test_a_dump_is_brought_back_by_the_documented_commands(postgres: Postgres, tmp_path: Path) -> None:
    page = (INFRA.parent / "docs/operations.md").read_text()
    [dump] = re.findall(r"postgres-0 -- (pg_dump .*) > prefect\.dump", page)
    [restore] = re.findall(r"`(pg_restore .*)`", page)

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
