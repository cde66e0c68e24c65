"""Bare deployment names through the real command line, against a real server."""

from collections.abc import Iterator

import pytest
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule

from flows.local.record import Stack
from tests.flows.server import Server, free_port, prefect_server, wait_for, write_project
from tests.flows.test_request import committed

DEPLOYMENTS = """
  - {name: train-small, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: "5", entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: twice, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: twice, entrypoint: "small.py:other", work_pool: {name: cpu}}
  - {name: train-demo, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, parameters: {preset: demo}}
  - {name: train-broken, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, parameters: {preset: broken}}
"""
PIPELINE = """
from prefect import flow

@flow(name="pipeline")
def pipeline(preset: str = "demo", revision: str | None = None, overrides: dict | None = None) -> None:
    pass
"""
THERE = "other/twice, pipeline/train-broken, pipeline/train-demo, small/5, small/train-small, small/twice"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with deployments, two of one name, and two of a flow whose parameters are checked."""
    with prefect_server(tmp_path_factory.mktemp("plugin")) as server:
        write_project(server.folder, DEPLOYMENTS)
        (server.folder / "pipeline.py").write_text(PIPELINE)
        committed(server.folder)
        Stack(server.folder, "mark", server.url).save()
        server.deploy("cpu")
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


@pytest.mark.parametrize(
    ("typed", "status", "says"),
    [
        ("inspect train-small --output json", 0, '"name": "train-small"'),
        ("run small/train-small", 0, "Created flow run"),
        ("run --tag train-small --no-watch train-small", 0, "train-small is small/train-small"),
        ("run --watch-interval 5 --no-watch 5", 0, "5 is small/5"),
        ("run --help", 0, "Usage"),
        ("run train-nothing", 1, f"'train-nothing'; there are {THERE}\n"),
        ("run twice", 1, "type one of other/twice, small/twice\n"),
    ],
)
def test_a_name_is_found_or_what_exists_is_listed(server: Server, typed: str, status: int, says: str) -> None:
    done = server.prefect("deployment", *typed.split(), check=False)
    assert done.returncode == status
    assert says in done.stdout + done.stderr
    assert status == 0 or done.stderr.count("\n") == 1


def test_a_refused_run_is_not_created_and_a_good_one_is(server: Server) -> None:
    for typed, says in [
        (("train-demo", "-p", "preset=nope"), "'nope'"),
        (("pipeline/train-demo", "--params", '{"overrides": {"train.imagez": 1}}'), "train.imagez"),
        (("train-broken", "-p", "overrides={}"), "'broken'"),
    ]:
        done = server.prefect("deployment", "run", *typed, check=False)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("cspipe: ")
        assert says in last
    server.prefect("deployment", "run", "train-demo", "-p", 'overrides={"train.images": 1024}')
    with server.client() as client:
        of_pipeline = FlowFilter(name=FlowFilterName(any_=["pipeline"]))
        runs = client.read_flow_runs(flow_filter=of_pipeline)
    assert [run.parameters["overrides"] for run in runs] == [{"train.images": 1024}]


def test_an_unreachable_server_is_one_line(server: Server) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    away = Server(url, server.folder, server.env | {"PREFECT_API_URL": url})
    done = away.prefect("deployment", "run", "train-small", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cspipe: the Prefect server at {url} gives no answer (")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_schedule_gets_its_runs(server: Server) -> None:
    """By the server's scheduler, which fails with some versions of its packages while all else goes on."""
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
    with server.client() as client:
        flow = client.create_flow_from_name("night")
        made = client.create_deployment(flow, "nightly", schedules=[schedule])
        wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [made]}})
        wait_for(lambda: client.read_flow_runs(flow_run_filter=wanted), 60)
        hours = {run.expected_start_time.hour for run in client.read_flow_runs(flow_run_filter=wanted)}
    assert hours == {3}
