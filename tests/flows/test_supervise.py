"""The supervisor against a real server, on a clock that the tests move; and once with a real worker that is killed."""

import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled

from cspipe.runtime.errors import UserError
from flows import supervise
from flows.supervise import AGAIN, ATTEMPTS, MISSED, NIGHTLY, PENDING, TAG, Watch, watch
from tests.flows.server import FLOW, end, prefect_server, state_of, wait_for, write_project

DEPLOYMENTS = """
  - {name: train-small, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: run-stage-small, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: gpu}}
"""
WINDOW = 90.0  # three times Prefect's shortest heartbeat
LOST = Crashed(message="worker lost")


@flow
def watched() -> None:
    """A flow to have runs of."""


def new_run(client: SyncPrefectClient, deployment: str, *states: State, tags: list[str] | None = None) -> UUID:
    """A run of a deployment, put through states; the first keeps it from workers."""
    there = client.create_deployment(client.create_flow(watched), deployment, tags=[TAG] if tags is None else tags)
    return put_through(client, there, *states)


def put_through(client: SyncPrefectClient, deployment: UUID, *states: State, parent: UUID | None = None) -> UUID:
    later = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    run = client.create_flow_run_from_deployment(deployment, state=later, parent_task_run_id=parent)
    for state in states:
        client.set_flow_run_state(run.id, state, force=True)
    return run.id


@pytest.mark.parametrize("deployment", ["train-small", "sweep", "study"])
def test_a_crashed_run_is_scheduled_again_three_times(client: SyncPrefectClient, deployment: str) -> None:
    run = new_run(client, deployment, Running(), LOST)
    for attempt in range(1, ATTEMPTS + 1):
        Watch(WINDOW).look(client)
        state = state_of(client, run)
        assert (state.name, state.message) == ("AwaitingRetry", f"{AGAIN}, {attempt} of {ATTEMPTS}: worker lost")
        for next_state in (Running(), LOST):
            client.set_flow_run_state(run, next_state, force=True)
    Watch(WINDOW).look(client)
    assert state_of(client, run).name == "Crashed"


@pytest.mark.parametrize(
    ("deployment", "states", "tags"),
    [
        ("train-small", [Running(), Cancelling(), LOST], [TAG]),  # a person cancelled it
        ("run-stage-small", [Running(), LOST], [TAG]),  # the pipeline sends it again
        ("train-foreign", [Running(), LOST], []),
    ],
)
def test_what_is_not_for_the_supervisor_stays_crashed(
    client: SyncPrefectClient, deployment: str, states: list[State], tags: list[str]
) -> None:
    run = new_run(client, deployment, *states, tags=tags)
    Watch(WINDOW).look(client)
    assert state_of(client, run).name == "Crashed"


def test_a_training_that_another_flow_waits_for_is_left_to_it(client: SyncPrefectClient) -> None:
    task = client.request("POST", "/task_runs/", json={"task_key": "point", "dynamic_key": "0", "flow_run_id": None})
    deployment = client.create_deployment(client.create_flow(watched), "train-small", tags=[TAG])
    run = put_through(client, deployment, Running(), LOST, parent=UUID(task.json()["id"]))
    Watch(WINDOW).look(client)
    assert state_of(client, run).name == "Crashed"


def test_a_run_is_lost_only_if_the_server_was_seen_all_the_time(client: SyncPrefectClient) -> None:
    lost, waiting = new_run(client, "run-stage-small", Running()), new_run(client, "run-stage-small", Pending())
    foreign = new_run(client, "foreign", Running(), tags=[])
    view, start = Watch(WINDOW), datetime.now(UTC) + timedelta(seconds=WINDOW)

    def names(seconds: float) -> list[str | None]:
        view.look(client, start + timedelta(seconds=seconds))
        return [state_of(client, run).name for run in (lost, waiting, foreign)]

    assert names(0) == names(40) == ["Running", "Pending", "Running"], "nobody was there to see anything"
    assert names(100) == names(140) == ["Running", "Pending", "Running"], "the server was away for a minute"
    assert [names(180), names(195)][-1] == ["Crashed", "Pending", "Running"]
    assert (state_of(client, lost).message or "").startswith("worker lost: no heartbeat for ")
    for seconds in range(230, int(PENDING) + 40, 40):
        view.look(client, start + timedelta(seconds=seconds))
    assert names(PENDING + 60) == ["Crashed", "Crashed", "Running"]


def test_a_run_that_ends_meanwhile_keeps_its_end(client: SyncPrefectClient) -> None:
    run = new_run(client, "run-stage-small", Running())
    stale = client.read_flow_run(run)
    client.set_flow_run_state(run, Completed())
    supervise._set(client, stale, LOST)
    assert state_of(client, run).name == "Completed"


@pytest.fixture
def nightly(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
    made = client.create_deployment(client.create_flow(watched), NIGHTLY, tags=[TAG], schedules=[schedule])
    yield client.read_deployment(made)
    client.delete_deployment(made)
    for artifact in client.read_artifacts():
        client.delete_artifact(artifact.id)


def age(deployment: DeploymentResponse) -> timedelta:
    created = deployment.schedules[0].created
    assert created is not None
    return datetime.now(UTC) - created


def warnings(client: SyncPrefectClient) -> int:
    return sum(artifact.key == MISSED for artifact in client.read_artifacts())


def test_a_nightly_that_found_nothing_out_is_said_once(
    client: SyncPrefectClient, nightly: DeploymentResponse, caplog: pytest.LogCaptureFixture
) -> None:
    for ended in (Cancelled(name="Skipped"), Failed(), LOST):
        put_through(client, nightly.id, Running(), ended)
    Watch(WINDOW).look(client)
    assert warnings(client) == 0, "the schedule is new: nothing to miss"
    short = age(nightly)
    with caplog.at_level(logging.WARNING, "cspipe.supervise"):
        for _ in range(2):
            Watch(WINDOW, nightly=short).look(client)
    assert warnings(client) == len([line for line in caplog.messages if "has not run" in line]) == 1


@pytest.mark.parametrize("ended", [Completed(), Failed(name="Drifted")])
def test_a_night_that_ran_is_not_missed_whatever_it_found(
    client: SyncPrefectClient, nightly: DeploymentResponse, ended: State
) -> None:
    put_through(client, nightly.id, Running(), ended)
    Watch(WINDOW, nightly=age(nightly)).look(client)
    assert warnings(client) == 0
    Watch(WINDOW, nightly=age(nightly)).look(client, datetime.now(UTC) + timedelta(hours=1))
    assert warnings(client) == 1, "nothing ran in the last seconds of that hour"


def test_a_window_that_would_end_healthy_runs_is_refused() -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}), pytest.raises(UserError, match="90 or more"):
        watch(window=60.0)


@pytest.mark.slow
def test_a_worker_killed_is_noticed_and_the_healthy_run_goes_on(tmp_path: Path) -> None:
    """About 3 minutes: Prefect's heartbeats are half a minute apart and three of them must be missing."""
    with prefect_server(tmp_path) as server, server.client() as client:
        write_project(server.folder, DEPLOYMENTS)
        server.deploy("cpu", "gpu")
        server.worker("healthy", "gpu")
        dying = server.worker("dying", "cpu")
        kept, lost = (
            client.create_flow_run_from_deployment(
                client.read_deployment_by_name(f"small/{name}").id, parameters={"seconds": 600, "revision": name}
            ).id
            for name in ("run-stage-small", "train-small")
        )
        server.start("supervisor", sys.executable, "-m", "flows.supervise", "--window", str(WINDOW), "--every", "5")
        wait_for(lambda: {state_of(client, run).name for run in (kept, lost)} == {"Running"}, 90)
        end([dying])
        killed = time.monotonic()
        wait_for(lambda: state_of(client, lost).name != "Running", WINDOW + 60)
        assert time.monotonic() - killed > WINDOW - 35  # the last heartbeat was at most half a minute before the kill
        wait_for(lambda: state_of(client, lost).name == "AwaitingRetry", 30)
        assert "Crashed" in [state.name for state in client.read_flow_run_states(lost)]
        server.worker("rescuer")
        wait_for(lambda: state_of(client, lost).name == "Running", 60)  # the same run, on another worker
        assert client.read_flow_run(lost).run_count == 2
        assert state_of(client, kept).name == "Running"


@pytest.mark.slow
def test_a_run_that_is_scheduled_again_waits_for_its_process_to_end(tmp_path: Path) -> None:
    """Half a minute; the other run of the worker goes on."""
    with prefect_server(tmp_path) as server, server.client() as client:
        write_project(server.folder, DEPLOYMENTS)
        lingering = "    import atexit\n    atexit.register(time.sleep, 10)\n    time.sleep(seconds)"
        (server.folder / "small.py").write_text(FLOW.replace("    time.sleep(seconds)", lingering))
        server.deploy("cpu", "gpu")
        worker = server.worker("cpu", limit=2)
        deployment = client.read_deployment_by_name("small/train-small").id
        other, run = (
            client.create_flow_run_from_deployment(deployment, parameters={"seconds": seconds}).id
            for seconds in (600, 0)
        )
        wait_for(lambda: [state_of(client, each).name for each in (other, run)] == ["Running", "Completed"], 90)
        client.set_flow_run_state(run, LOST, force=True)
        Watch(WINDOW).look(client)
        wait_for(lambda: state_of(client, run).name == "Completed", 60)
        assert client.read_flow_run(run).run_count == 2
        assert worker.poll() is None
        assert state_of(client, other).name == "Running"
