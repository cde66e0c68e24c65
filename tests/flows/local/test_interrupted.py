"""What the end of a stack tells a real server."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Completed, Running

from flows import supervise
from flows.local import interrupted, processes, stack_parts
from tests.flows.server import free_port

pytestmark = pytest.mark.usefixtures("prefect")


@flow
def small() -> None:
    """A flow to have runs of."""


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def test_pools_are_paused_and_the_next_start_resumes_them(client: SyncPrefectClient) -> None:
    stack_parts._pools(client)
    interrupted.pause(PREFECT_API_URL.value())
    assert all(client.read_work_pool(pool).is_paused for pool in interrupted.POOLS)
    stack_parts._pools(client)
    assert not any(client.read_work_pool(pool).is_paused for pool in interrupted.POOLS)


def test_a_run_that_was_at_work_is_stopped_and_one_that_has_ended_is_not(client: SyncPrefectClient) -> None:
    runs = [client.create_flow_run(small, state=state) for state in (Running(), Completed(), Cancelling())]
    interrupted.tell(PREFECT_API_URL.value(), [str(run.id) for run in runs])
    now = [client.read_flow_run(run.id) for run in runs]
    assert [run.state_name for run in now] == ["Stopped", "Completed", "Cancelling"]
    assert now[0].state is not None
    assert now[0].state.is_crashed()


def test_a_run_that_was_stopped_goes_on_however_often_and_long_ago(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "MEMORY", timedelta(0))
    flow_id = client.create_flow(small)
    deployment = client.create_deployment(flow_id, "train-small", tags=[supervise.TAG])
    run = client.create_flow_run_from_deployment(deployment, state=Running())
    for _ in range(supervise.ATTEMPTS + 1):
        interrupted.tell(PREFECT_API_URL.value(), [str(run.id)])
        supervise.Watch(90).look(client)
        state = client.read_flow_run(run.id).state
        assert state is not None
        assert (state.name, state.message) == ("AwaitingRetry", "going on: stopped by `cspipe down`")
        client.set_flow_run_state(run.id, Running(), force=True)


def test_a_server_that_is_gone_does_not_matter() -> None:
    api = f"http://127.0.0.1:{free_port()}/api"
    interrupted.pause(api)
    interrupted.tell(api, ["6ad2c0a4-0000-0000-0000-000000000000"])


def test_what_works_for_a_run_is_found_without_its_worker() -> None:
    mark, run = uuid.uuid4().hex, str(uuid.uuid4())
    environment = os.environ | {processes.MARK: mark, "PREFECT__FLOW_RUN_ID": run}
    with subprocess.Popen(["sleep", "600"], env=environment) as orphan:
        found = interrupted.at_work(mark)
        orphan.kill()
    assert {process.pid: run for process, run in found.items()} == {orphan.pid: run}
