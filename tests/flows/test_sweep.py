"""Sweeps on a real server with one worker: points that need slots beside them, are lost, and are found again."""

import logging
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Completed, Crashed

from flows.local.stopping import STOPPED
from flows.setup import SLOTS, SWEEPS
from flows.supervise import Watch
from flows.sweep import ATTEMPTS, on_a_worker, point_name
from tests.conftest import ROOT
from tests.flows.server import Server, prefect_server, state_of, wait_for, write_project

FLOWS = """
import os, time
from pathlib import Path
from prefect import flow
from flows.sweep import sweep

@flow
def pipeline(preset: str, revision: str | None, overrides: dict) -> None:
    first = not Path(f"{overrides['key']}.txt").exists()
    Path(f"{overrides['key']}.txt").open("a").write("x")
    if overrides["key"] == "lost" and first:
        os.kill(os.getpid(), 9)
    time.sleep(1)
"""
DEPLOYMENTS = """
  - {name: train-demo, entrypoint: "points.py:pipeline", tags: [cspipe], work_pool: {name: cpu}}
  - name: sweep
    entrypoint: points.py:sweep
    tags: [cspipe]
    work_pool: {name: cpu, work_queue_name: sweeps}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server and one worker with as many slots as `cspipe up` gives it."""
    with prefect_server(tmp_path_factory.mktemp("sweep")) as server:
        write_project(server.folder, DEPLOYMENTS)
        (server.folder / "points.py").write_text(FLOWS)
        server.run("git", "init", "-q")
        server.run("git", "add", "points.py")
        server.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "start")
        server.env["PYTHONPATH"] = str(ROOT)
        server.deploy("cpu")
        limit = str(SLOTS["cpu"] - 1)
        server.prefect("work-queue", "set-concurrency-limit", SWEEPS, limit, "--pool", "cpu")
        server.worker("cpu", limit=SLOTS["cpu"])
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[SyncPrefectClient]:
    with server.client() as client:
        yield client


def new_sweep(client: SyncPrefectClient, *keys: str) -> UUID:
    there = client.read_deployment_by_name("sweep/sweep")
    return client.create_flow_run_from_deployment(there.id, parameters={"grid": {"key": list(keys)}}).id


def ended(client: SyncPrefectClient, run: UUID, seconds: float = 180) -> tuple[str, str | None]:
    wait_for(lambda: state_of(client, run).is_final(), seconds)
    state = state_of(client, run)
    return state.name, state.message


def count(client: SyncPrefectClient) -> int:
    """Pipeline runs there are, in whatever state."""
    names = {flow.id: flow.name for flow in client.read_flows()}
    return Counter(names[run.flow_id] for run in client.read_flow_runs())["pipeline"]


@pytest.mark.slow
def test_as_many_sweeps_as_slots_do_not_wait_for_each_other(client: SyncPrefectClient) -> None:
    """Two minutes or so: each point is a process."""
    sweeps = [new_sweep(client, f"a{number}", f"b{number}") for number in range(SLOTS["cpu"])]
    assert [ended(client, sweep, 400) for sweep in sweeps] == [("Completed", "2 points done")] * len(sweeps)


@pytest.mark.slow
def test_a_lost_point_starts_again_and_a_lost_sweep_finds_its_points(client: SyncPrefectClient, server: Server) -> None:
    before = count(client)
    sweep = new_sweep(client, "kept", "lost")
    assert ended(client, sweep) == ("Completed", "2 points done")
    assert (server.folder / "kept.txt").read_text() == "x"
    assert (server.folder / "lost.txt").read_text() == "xx"
    assert count(client) == before + 3
    client.set_flow_run_state(sweep, Crashed(message="worker lost"), force=True)
    Watch(window=90).look(client)
    assert state_of(client, sweep).name == "AwaitingRetry"
    assert ended(client, sweep) == ("Completed", "2 points done")
    assert client.read_flow_run(sweep).run_count == 2
    assert count(client) == before + 3, "every point was done, so none was started"


@pytest.mark.parametrize(("ends", "started"), [([STOPPED] * 5 + ["Completed"], 6), (["Crashed"] * 9, ATTEMPTS)])
def test_a_stop_by_a_person_is_no_lost_worker(ends: list[str], started: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real server each of these takes a stack that goes down and up again."""
    left = iter(ends)

    def ended_run(*_: object) -> SimpleNamespace:
        name = next(left)
        return SimpleNamespace(state=Completed() if name == "Completed" else Crashed(name=name))

    monkeypatch.setattr("flows.sweep.run_deployment", lambda *_, **__: SimpleNamespace(id=uuid4(), name="point"))
    monkeypatch.setattr("flows.sweep.wait_for_run", ended_run)
    monkeypatch.setattr("flows.sweep.get_run_logger", logging.getLogger)
    assert on_a_worker({}).name == ends[started - 1]
    assert len(list(left)) == len(ends) - started


def test_a_point_is_named_by_its_values_whatever_they_are() -> None:
    """Prefect fills the name in as a format."""
    point = {"model": {"name": "dit"}, "a": "{parameters}"}
    assert point_name(point).format() == "model={'name': 'dit'}, a={parameters}"
