"""The supervisor against a real server, with real workers killed."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running, Scheduled

from flows import supervise
from flows.supervise import AGAIN, ATTEMPTS, MISSED, NIGHTLY, Watch
from tests.flows.server import Server, prefect_server, wait_for, write_project

DEPLOYMENTS = """
  - {name: train-small, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: sweep, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: study, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: cpu}}
  - {name: run-stage-small, entrypoint: "small.py:small", tags: [cspipe], work_pool: {name: gpu}}
  - {name: train-foreign, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - name: nightly-reevaluation
    entrypoint: small.py:other
    tags: [cspipe]
    work_pool: {name: cpu}
    schedules: [{cron: "0 3 * * *", timezone: UTC, slug: nightly}]
"""
pytestmark = pytest.mark.slow  # a server with deployments of its own takes half a minute
WINDOW = 90.0  # three times Prefect's shortest heartbeat


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with our deployments, and one of somebody else's."""
    with prefect_server(tmp_path_factory.mktemp("supervise")) as server:
        write_project(server.folder, DEPLOYMENTS)
        for pool in ("cpu", "gpu"):
            server.prefect("work-pool", "create", pool, "--type", "process")
        server.prefect("--no-prompt", "deploy", "--all")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[SyncPrefectClient]:
    with server.client() as client:
        yield client


def new_run(client: SyncPrefectClient, deployment: str, *states: State, **parameters: object) -> FlowRun:
    """A run of a deployment that no worker takes, put through states."""
    there = client.read_deployment_by_name(f"small/{deployment}")
    first = states[0] if states else None
    run = client.create_flow_run_from_deployment(there.id, parameters=parameters, state=first)
    for state in states[1:]:
        client.set_flow_run_state(run.id, state, force=True)
    return run


def state_of(client: SyncPrefectClient, run: UUID) -> State:
    state = client.read_flow_run(run).state
    assert state is not None
    return state


def held() -> State:
    """Scheduled for later, so that no worker takes it."""
    return Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))


def crashed() -> State:
    return Crashed(message="worker lost")


@pytest.mark.parametrize("deployment", ["train-small", "sweep", "study"])
def test_a_crashed_run_is_scheduled_again_three_times(client: SyncPrefectClient, deployment: str) -> None:
    run = new_run(client, deployment, held(), Running(), crashed())
    for attempt in range(1, ATTEMPTS + 1):
        Watch(WINDOW).look(client)
        state = state_of(client, run.id)
        assert (state.name, state.message) == ("AwaitingRetry", f"{AGAIN}, {attempt} of {ATTEMPTS}: worker lost")
        for next_state in (Running(), crashed()):
            client.set_flow_run_state(run.id, next_state, force=True)
    Watch(WINDOW).look(client)
    assert state_of(client, run.id).name == "Crashed"


def test_what_a_person_cancelled_stays_so(client: SyncPrefectClient) -> None:
    run = new_run(client, "train-small", held(), Running(), Cancelling(), crashed())
    Watch(WINDOW).look(client)
    assert state_of(client, run.id).name == "Crashed"


@pytest.mark.parametrize("deployment", ["run-stage-small", "train-foreign"])
def test_crashed_stages_and_other_peoples_runs_are_not_scheduled(client: SyncPrefectClient, deployment: str) -> None:
    run = new_run(client, deployment, held(), Running(), crashed())
    Watch(WINDOW).look(client)
    assert state_of(client, run.id).name == "Crashed"


def test_a_training_that_another_flow_waits_for_is_left_to_it(client: SyncPrefectClient) -> None:
    task = client.request("POST", "/task_runs/", json={"task_key": "point", "dynamic_key": "0", "flow_run_id": None})
    there = client.read_deployment_by_name("small/train-small")
    run = client.create_flow_run_from_deployment(there.id, state=held(), parent_task_run_id=UUID(task.json()["id"]))
    for state in (Running(), crashed()):
        client.set_flow_run_state(run.id, state, force=True)
    Watch(WINDOW).look(client)
    assert state_of(client, run.id).name == "Crashed"


def test_a_run_is_lost_only_if_the_server_was_seen_all_the_time(client: SyncPrefectClient) -> None:
    lost = new_run(client, "run-stage-small", held(), Running())
    foreign = new_run(client, "train-foreign", held(), Running())
    view = Watch(window=3.0)
    time.sleep(3.5)  # before the first look: the supervisor was not there to see anything
    view.look(client)
    assert state_of(client, lost.id).name == "Running"
    for _ in range(4):
        time.sleep(1)
        view.look(client)
    assert state_of(client, lost.id).name == "Crashed"
    assert (state_of(client, lost.id).message or "").startswith("worker lost: no heartbeat for ")
    assert state_of(client, foreign.id).name == "Running"


def test_a_run_that_nobody_is_left_to_cancel_ends_as_cancelled(client: SyncPrefectClient) -> None:
    stuck = new_run(client, "train-small", held(), Running(), Cancelling())
    view = Watch(window=3.0)
    view.look(client)
    assert state_of(client, stuck.id).name == "Cancelling", "its worker gets time"
    for _ in range(4):
        time.sleep(1)
        view.look(client)
    state = state_of(client, stuck.id)
    assert (state.name, (state.message or "")[:41]) == ("Cancelled", "cancelled; worker lost: no heartbeat for ")
    Watch(WINDOW).look(client)
    assert state_of(client, stuck.id).name == "Cancelled"


def test_a_run_that_ends_meanwhile_keeps_its_end(client: SyncPrefectClient) -> None:
    run = new_run(client, "run-stage-small", held(), Running())
    stale = client.read_flow_run(run.id)
    client.set_flow_run_state(run.id, Completed())
    supervise._set(client, stale, crashed())
    assert state_of(client, run.id).name == "Completed"


def test_a_nightly_that_did_not_run_is_said_once(client: SyncPrefectClient, caplog: pytest.LogCaptureFixture) -> None:
    view = Watch(WINDOW, nightly=timedelta(hours=26))
    view.look(client)  # the schedule is new: nothing to miss
    assert not any(artifact.key == MISSED for artifact in client.read_artifacts())
    [schedule] = client.read_deployment_by_name(f"other/{NIGHTLY}").schedules
    assert schedule.created is not None
    short = datetime.now(UTC) - schedule.created  # the schedule is older than this from now on
    night = client.read_deployment_by_name(f"other/{NIGHTLY}").id
    for end in (Cancelled(name="Skipped"), Failed(), crashed()):  # none of these found anything out
        run = client.create_flow_run_from_deployment(night, state=held())
        for state in (Running(), end):
            client.set_flow_run_state(run.id, state, force=True)
    with caplog.at_level(logging.WARNING, "cspipe.supervise"):
        for _ in range(2):
            Watch(WINDOW, nightly=short).look(client)
    said = [artifact for artifact in client.read_artifacts() if artifact.key == MISSED]
    assert len(said) == len([line for line in caplog.messages if "has not run" in line]) == 1


@pytest.mark.parametrize("end", [Completed(), Failed(name="Drifted")])
def test_a_night_that_ran_is_not_missed_whatever_it_found(client: SyncPrefectClient, end: State) -> None:
    def said() -> int:
        return sum(artifact.key == MISSED for artifact in client.read_artifacts())

    run = client.create_flow_run_from_deployment(client.read_deployment_by_name(f"other/{NIGHTLY}").id, state=held())
    for state in (Running(), end):
        client.set_flow_run_state(run.id, state, force=True)
    time.sleep(1.5)
    before, now = said(), datetime.now(UTC)
    supervise._warn_of_missed(client, now, now - client.read_flow_run(run.id).start_time + timedelta(seconds=1))
    assert said() == before
    supervise._warn_of_missed(client, now, timedelta(seconds=1))
    assert said() == before + 1, "nothing ran in the last second"


def test_a_window_that_would_end_healthy_runs_is_refused(server: Server) -> None:
    done = server.run(sys.executable, "-m", "flows.supervise", "--window", "60", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "with less than three times that healthy ones would be ended; take 90 or more" in done.stderr


def test_a_worker_killed_is_noticed_and_the_healthy_run_goes_on(server: Server, client: SyncPrefectClient) -> None:
    """About 2.5 minutes: Prefect's heartbeats are half a minute apart and three of them must be missing."""
    server.worker("healthy", "gpu")
    dying = server.worker("dying", "cpu")
    kept = client.create_flow_run_from_deployment(
        client.read_deployment_by_name("small/run-stage-small").id, parameters={"seconds": 600, "revision": "kept"}
    )
    lost = client.create_flow_run_from_deployment(
        client.read_deployment_by_name("small/train-small").id, parameters={"seconds": 600, "revision": "lost"}
    )
    server.start("supervisor", sys.executable, "-m", "flows.supervise", "--window", str(WINDOW), "--every", "5")
    wait_for(lambda: {state_of(client, run.id).name for run in (kept, lost)} == {"Running"}, 90)
    victims = [psutil.Process(dying.pid), *psutil.Process(dying.pid).children(recursive=True)]
    for victim in victims:
        victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: state_of(client, lost.id).name != "Running", WINDOW + 60)
    assert time.monotonic() - killed > WINDOW - 35  # the last heartbeat was at most half a minute before the kill
    states = [state.name for state in client.read_flow_run_states(lost.id)]
    assert "Crashed" in states
    wait_for(lambda: state_of(client, lost.id).name == "AwaitingRetry", 30)
    server.worker("rescuer")
    wait_for(lambda: state_of(client, lost.id).name == "Running", 60)  # the same run, on another worker
    assert client.read_flow_run(lost.id).run_count == 2
    assert state_of(client, kept.id).name == "Running"
    assert "lost" in (server.folder / "ran.txt").read_text()
