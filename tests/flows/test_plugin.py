"""Bare deployment names through the real command line, against a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import plugin
from tests.flows.server import Server, end, free_port, prefect_server, write_project

DEPLOYMENTS = """
  - {name: train-small, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: twice, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: twice, entrypoint: "small.py:other", work_pool: {name: cpu}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with three deployments, two of one name."""
    with prefect_server(tmp_path_factory.mktemp("plugin")) as server:
        write_project(server.folder, DEPLOYMENTS)
        server.prefect("work-pool", "create", "cpu", "--type", "process")
        server.prefect("--no-prompt", "deploy", "--all")
        yield server


def newest_parameters(server: Server) -> dict[str, object]:
    with server.client() as client:
        runs = client.read_flow_runs()
    return max(runs, key=lambda run: str(run.created)).parameters


def test_a_bare_name_runs_with_its_parameters(server: Server) -> None:
    overrides = '{"train.images": 1000}'
    done = server.prefect("deployment", "run", "train-small", "-p", "revision=abc", "-p", f"overrides={overrides}")
    assert "cspipe: train-small is small/train-small" in done.stderr
    assert newest_parameters(server) == {"revision": "abc", "overrides": {"train.images": 1000}}


def test_options_may_come_before_the_name_and_python_m_works(server: Server) -> None:
    command = ("deployments", "run", "--param", "seconds=0.5", "--tag=mine", "train-small")
    done = server.run(sys.executable, "-m", "prefect", "--no-prompt", *command)
    assert "Created flow run" in done.stdout
    assert newest_parameters(server) == {"seconds": 0.5}


@pytest.mark.slow
def test_watching_waits_for_the_end(server: Server) -> None:
    worker = server.worker("watched")
    try:
        done = server.prefect("deployment", "run", "train-small", "-p", "revision=seen", "--watch")
    finally:
        end([worker])
    assert "finished successfully" in done.stdout
    assert "seen {}" in (server.folder / "ran.txt").read_text()  # in the folder that CSPIPE_HOME named


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        ("inspect train-small --output json", 0, '"name": "train-small"'),
        ("run small/train-small", 0, "Created flow run"),
        ("run train-nothing", 1, "'train-nothing'; there are other/twice, small/train-small, small/twice\n"),
        ("run twice", 1, "type one of other/twice, small/twice\n"),
    ],
)
def test_a_name_is_found_or_what_exists_is_listed(server: Server, typed: str, status: int, says: str) -> None:
    done = server.prefect("deployment", *typed.split(), check=False)
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert status == 0 or done.stderr.count("\n") == 1


def test_an_unreachable_server_is_one_line(server: Server) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    away = Server(url, server.folder, server.env | {"PREFECT_API_URL": url})
    done = away.prefect("deployment", "run", "train-small", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cspipe: the Prefect server at {url} gives no answer (")
    assert done.stderr.count("\n") == 1


def test_without_any_server_the_way_to_one_is_named(server: Server, tmp_path: Path) -> None:
    env = {name: value for name, value in server.env.items() if name != "PREFECT_API_URL"}
    done = Server("", server.folder, env | {"PREFECT_HOME": str(tmp_path)}).prefect(
        "deployment", "run", "train-small", check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no Prefect server is set up here; start one with `uv run cspipe up`" in done.stderr


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("deployment run a", "a"),
        ("deployment run -p x=1 a", "a"),
        ("deployment run -px=1 --watch a --tag b", "a"),
        ("--profile p deployment inspect -o json a", "a"),
        ("deployment run --param=x=1 -- a", "a"),
        ("deployment run --id 12", None),
        ("deployment run --id=12 a", None),
        ("deployment run --watch", None),
        ("deployment ls --flow-name a b", None),
        ("deployment delete a", None),
        ("flow-run inspect a", None),
        ("deploy run a", None),
    ],
)
def test_only_the_name_of_a_deployment_is_looked_at(typed: str, name: str | None) -> None:
    argv = ["/somewhere/prefect", *typed.split()]
    place = plugin._name_place(argv)
    assert (None if place is None else argv[place]) == name


def test_every_option_without_a_value_is_known() -> None:
    """Against the command line of the Prefect that is installed: a new flag there must be listed here."""
    from prefect.cli.deployment import deployment_app

    flags = set()
    for command in plugin.COMMANDS:
        for argument in deployment_app[command].assemble_argument_collection():
            if argument.hint is bool:
                flags |= set(argument.names)
    assert flags
    assert flags <= plugin.FLAGS


@pytest.mark.parametrize(
    ("argv0", "original", "is_prefect"),
    [
        ("/bin/prefect", ["python", "/bin/prefect"], True),
        ("-m", ["python", "-m", "prefect", "deployment"], True),
        ("-m", ["python", "-m", "prefect.engine"], False),
        ("/bin/pytest", ["python", "/bin/pytest"], False),
        ("-c", ["python", "-c", "import prefect"], False),
    ],
)
def test_other_programs_are_left_alone(argv0: str, original: list[str], is_prefect: bool) -> None:
    assert plugin._is_prefect([argv0, "deployment", "run", "a"], original) is is_prefect
