"""Postgres is restarted, and Prefect's server killed and started again, while flows run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.flows.server import end, wait_for
from tests.infra.conftest import compose, env  # noqa: F401  # fixtures
from tests.infra.postgres import Postgres, _run
from tests.infra.test_postgres import BIN, Server, postgres, server  # noqa: F401  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BIN is None, reason="Postgres is not installed")]
CLIENTS = 3
FLOW = """
import sys
import time
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

@task(cache_policy=NO_CACHE)
def double(number):
    time.sleep(2)
    return 2 * number

@flow(name=sys.argv[1])
def client():
    return sum(double(number) for number in range(10))

assert client() == 90
"""
Restart = Callable[[Server, Postgres], None]


def restart_postgres(server: Server, postgres: Postgres) -> None:  # noqa: F811
    """As after a crash of it, twice."""
    folder = postgres.query("show data_directory")
    for _ in range(2):
        _run(postgres.bin / "pg_ctl", "restart", "--mode=immediate", f"--pgdata={folder}")
        wait_for(server.healthy, 60)


@pytest.fixture
def restart_server() -> Iterator[Restart]:
    """Kill -9, and the same command again five seconds later."""
    started: list[subprocess.Popen[bytes]] = []

    def restart(server: Server, postgres: Postgres) -> None:  # noqa: F811
        port = server.api.rpartition(":")[2].partition("/")[0]
        mine = psutil.Process().children(recursive=True)
        (old,) = (each for each in mine if port in each.environ().values() and "prefect" in each.cmdline()[2:3])
        command, environment, folder = old.cmdline(), old.environ(), old.cwd()
        old.kill()
        wait_for(lambda: not server.healthy(), 30)
        with server.log.open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log))
        wait_for(server.healthy, 120)

    yield restart
    end(started)


@pytest.mark.parametrize("what", ["postgres", "server"])
def test_flows_outlast_it(
    what: str,
    server: Server,  # noqa: F811
    postgres: Postgres,  # noqa: F811
    restart_server: Restart,
    tmp_path: Path,
) -> None:
    script = tmp_path / "client.py"
    script.write_text(FLOW)
    clients = [
        subprocess.Popen(
            [sys.executable, str(script), f"{what}-{number}"], env=server.env, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(CLIENTS)
    ]  # fmt: skip
    ran = f"from flow_run join flow on flow.id = flow_run.flow_id where flow.name like '{what}-%'"
    wait_for(lambda: postgres.query(f"select count(*) {ran} and state_type = 'RUNNING'") == str(CLIENTS), 120)
    {"postgres": restart_postgres, "server": restart_server}[what](server, postgres)
    for client in clients:
        output, _ = client.communicate(timeout=240)
        assert client.returncode == 0, output[-3000:]
    wait_for(lambda: postgres.query(f"select count(*) {ran} and state_type = 'COMPLETED'") == str(CLIENTS), 60)
    print(f"{what} restarted under {CLIENTS} flows: all completed")
