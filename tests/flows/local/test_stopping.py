"""The end of runs: what is done to their processes, and what a real server is told."""

import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Completed, Running

from flows import setup, supervise
from flows.local import processes, stopping
from flows.local.processes import Part, Program
from flows.local.record import Stack
from tests.flows.server import free_port, state_of, wait_for


@flow
def small() -> None:
    """A flow to have runs of."""


def test_pools_are_paused_and_the_next_start_resumes_them(client: SyncPrefectClient) -> None:
    setup.create_pools(client)
    stopping.pause_pools(PREFECT_API_URL.value())
    assert all(client.read_work_pool(pool).is_paused for pool in setup.SLOTS)
    setup.create_pools(client)
    assert not any(client.read_work_pool(pool).is_paused for pool in setup.SLOTS)
    assert client.read_work_queue_by_name(setup.SWEEPS, work_pool_name="cpu").concurrency_limit == 3


def test_a_run_that_was_at_work_is_stopped_and_one_that_has_ended_is_not(client: SyncPrefectClient) -> None:
    runs = [client.create_flow_run(small, state=state) for state in (Running(), Completed(), Cancelling())]
    stopping.report_stopped(PREFECT_API_URL.value(), [str(run.id) for run in runs])
    states = [state_of(client, run.id) for run in runs]
    assert [state.name for state in states] == ["Stopped", "Completed", "Cancelling"]
    assert states[0].is_crashed()


def test_a_run_that_was_stopped_goes_on_however_often_and_long_ago(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "MEMORY", timedelta(0))
    deployment = client.create_deployment(client.create_flow(small), "train-small", tags=[supervise.TAG])
    run = client.create_flow_run_from_deployment(deployment, state=Running())
    for _ in range(supervise.ATTEMPTS + 1):
        stopping.report_stopped(PREFECT_API_URL.value(), [str(run.id)])
        supervise.Watch(90).look(client)
        assert client.read_flow_run(run.id).state_name == "AwaitingRetry"
        client.set_flow_run_state(run.id, Running(), force=True)


def test_a_recycled_pid_is_never_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        part = Part("server", bystander.pid, time.time() - 3600)
        stopping.stop(Stack(tmp_path, mark="none", parts=[part]))
        assert capsys.readouterr().out == "server has ended\n"
        assert bystander.poll() is None
        bystander.kill()


def test_a_server_that_is_gone_does_not_matter() -> None:
    api = f"http://127.0.0.1:{free_port()}/api"
    stopping.pause_pools(api)
    stopping.report_stopped(api, ["6ad2c0a4-0000-0000-0000-000000000000"])


def test_what_works_for_a_run_is_found_without_its_worker() -> None:
    mark, run = uuid.uuid4().hex, str(uuid.uuid4())
    environment = os.environ | {processes.MARK: mark, "PREFECT__FLOW_RUN_ID": run}
    with subprocess.Popen(["sleep", "600"], env=environment) as orphan:
        found = stopping.at_work(mark)
        orphan.kill()
    assert {process.pid: run for process, run in found.items()} == {orphan.pid: run}


def test_a_stage_ends_while_its_engine_hears_it_and_no_engine_tries_again(tmp_path: Path) -> None:
    """An engine here starts its stage again as soon as that ends; the stage says a word before it does."""
    stage = tmp_path / "stage.py"
    stage.write_text(
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.5); print('stored', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('begun', flush=True)\ntime.sleep(600)\n"
    )
    engine = (
        "import subprocess, sys\n"
        "while True:\n"
        "    stage = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE, text=True)\n"
        "    for line in stage.stdout: print(line, end='', flush=True)\n"
        "    stage.wait()\n"
    )
    log = tmp_path / "log"
    command = [sys.executable, "-c", engine, str(stage), "prefect.engine"]
    part = processes.start(Program("engine", command, tmp_path, os.environ), log)
    wait_for(lambda: processes.tail(log) == "begun", 20)
    assert part.process is not None
    stopping.end_runs([part.process, *part.process.children(recursive=True)])
    assert part.process is None
    assert processes.tail(log).startswith("begun\nstored")
    assert processes.tail(log).count("stored") == 1
