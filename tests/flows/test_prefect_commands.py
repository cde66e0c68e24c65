"""Prefect's commands as people type them in this project, against a real server: bare names, and runs watched."""

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import FlowRunWaitTimeout
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running
from rich.console import Console

from cspipe.runtime.errors import UserError
from flows import plugin, watch
from flows.local.record import Stack
from tests.flows.server import Server, end, free_port, prefect_server, state_of, wait_for, write_project
from tests.flows.test_request import committed

DEPLOYMENTS = """
  - {name: twice, entrypoint: "small.py:small", work_pool: {name: cpu}}
  - {name: twice, entrypoint: "small.py:other", work_pool: {name: cpu}}
  - {name: train-broken, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, parameters: {preset: broken}}
  - name: train-demo
    entrypoint: pipeline.py:pipeline
    work_pool: {name: cpu}
    parameters: {preset: demo}
    tags: [cspipe]
"""
PIPELINE = """
import time
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact
from prefect.states import Completed

@task(task_run_name="{name}", retries=1, retry_delay_seconds=4)
def stage(name, seconds, fails):
    for what in (f"{name}-norm", name):
        create_progress_artifact(25.0, key=f"progress-{name}", description=f"{what}: 12 of 48, 3 images/s, 12 s left")
        if fails:
            raise ValueError(f"{name}: the loss is not finite")
        time.sleep(seconds)
    return Completed(message=f"{name}: ran ({seconds} s)")

@flow(name="pipeline", flow_run_name="demo-0123")
def pipeline(preset: str = "demo", overrides: dict | None = None, seconds: float = 5, fails: bool = False):
    get_run_logger().warning("S3 is away; trying again in 5 s")
    stage("train", seconds, fails)
    create_table_artifact([{"variant": "cs-10", "KID x1000": "415.4 ± 25.4"}], key="scores", description="scores")
    return Completed(message="demo-0123: 1 ran")
"""
THERE = "other/twice, pipeline/train-broken, pipeline/train-demo, small/twice"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with deployments: two of one name, and two of a flow whose parameters are checked."""
    with prefect_server(tmp_path_factory.mktemp("commands")) as server:
        write_project(server.folder, DEPLOYMENTS)
        (server.folder / "pipeline.py").write_text(PIPELINE)
        committed(server.folder)
        Stack(server.folder, "mark", server.url).save()
        server.deploy("cpu")
        yield server


@pytest.fixture
def here(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is in the server's project, as Prefect's commands would be."""
    monkeypatch.setenv("CSPIPE_HOME", str(server.folder))
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield


def runs(server: Server) -> list[FlowRun]:
    """All runs, the newest last."""
    with server.client() as client:
        return sorted(client.read_flow_runs(), key=lambda run: str(run.created))


def test_a_bare_name_runs_with_its_parameters(server: Server) -> None:
    parameters = ("-p", "preset=demo", "-p", 'overrides={"train.images": 1024}')
    done = server.prefect("deployment", "run", "--tag", "train-demo", "train-demo", *parameters)
    assert "cspipe: train-demo is pipeline/train-demo" in done.stderr
    assert runs(server)[-1].parameters == {"preset": "demo", "overrides": {"train.images": 1024}}


@pytest.mark.parametrize(
    ("typed", "name", "becomes"),
    [
        ("inspect train-small --output json", "train-small", "inspect small/train-small --output json"),
        ("run --tag 5 5", "5", "run --tag 5 small/5"),
        ("run --watch-interval 5 --no-watch 5", "5", "run --watch-interval 5 --no-watch small/5"),
    ],
)
def test_the_name_alone_is_replaced(typed: str, name: str, becomes: str) -> None:
    words = typed.split()
    assert plugin._arguments(words)["name"] == name
    assert plugin._replaced(words, name, f"small/{name}") == becomes.split()


def test_words_without_a_name_are_left_to_prefect() -> None:
    for typed in ("run --help", "run --tag", "ls"):
        assert "name" not in plugin._arguments(typed.split())


@pytest.mark.usefixtures("here")
def test_of_no_or_several_deployments_what_exists_is_listed(server: Server) -> None:
    with pytest.raises(UserError, match=f"'train-nothing'; there are {THERE}$"):
        plugin._full_name("train-nothing", server.url)
    with pytest.raises(UserError, match=r"type one of other/twice, small/twice$"):
        plugin._full_name("twice", server.url)


def test_a_refused_run_is_one_line_and_not_created(server: Server) -> None:
    before = len(runs(server))
    words = ("pipeline/train-demo", "--params", '{"overrides": {"train.imagez": 1}}')
    done = server.prefect("deployment", "run", *words, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cspipe: ")
    assert "train.imagez" in done.stderr.splitlines()[-1]
    assert len(runs(server)) == before


@pytest.mark.usefixtures("here")
def test_a_deployments_own_preset_is_checked() -> None:
    arguments = plugin._arguments(["run", "train-broken", "-p", "overrides={}"])
    with pytest.raises(UserError, match="'broken'"):
        plugin._check_request(arguments, "pipeline/train-broken")


def test_an_unreachable_server_is_told() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(UserError) as caught:
        plugin._full_name("train-small", url)
    assert str(caught.value).startswith(f"the Prefect server at {url} gives no answer (")
    assert "\n" not in str(caught.value)


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


def test_what_a_run_says_is_neither_markup_nor_commands() -> None:
    rows = [{"variant": "[/x]", "ended": "\x1b[2J"}]
    console = Console(file=io.StringIO(), width=80)
    console.print(watch.table(Artifact(type="table", data=json.dumps(rows))))
    assert "[/x]" in console.file.getvalue()
    assert r"\x1b[2J" in console.file.getvalue()
    assert watch.one_line("\x1b[2J\nmore") == r"\x1b[2J"


def created(server: Server, **parameters: object) -> UUID:
    """A run of the deployment, which no worker takes."""
    with server.client() as client:
        found = client.read_deployment_by_name("pipeline/train-demo")
        return client.create_flow_run_from_deployment(found.id, parameters=parameters).id


def executed(server: Server, run: UUID) -> None:
    command = (sys.executable, "-m", "prefect", "flow-run", "execute", str(run))
    server.start("execute", *command, CSPIPE_HOME=str(server.folder))


async def watch_it(run: UUID) -> tuple[FlowRun, str]:
    """Watch a run in this process; returns it as it ended, and what was printed."""
    printed = io.StringIO()
    async with get_client() as client:
        ended = await watch.watch(client, run, Console(file=printed, width=120), timeout=120)
    return ended, printed.getvalue()


@pytest.mark.usefixtures("here")
def test_a_run_is_told_stage_by_stage_and_ends_with_its_scores_or_reason(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "EVERY", 1.0)
    monkeypatch.setattr(watch, "PROGRESS_EVERY", 0.5)
    good, bad = created(server), created(server, fails=True)
    executed(server, good)
    executed(server, bad)

    async def both() -> tuple[tuple[FlowRun, str], tuple[FlowRun, str]]:
        return await asyncio.gather(watch_it(good), watch_it(bad))

    (ended, printed), (failed, reason) = asyncio.run(both())
    assert ended.state is not None
    assert ended.state.is_completed()
    lines = [" ".join(line.split()) for line in re.sub(r"(?m)^ +\d+:\d\d ", "", printed).splitlines()]
    wanted = [
        "waiting for a worker of pool cpu (`cspipe status` shows them)",
        "train running",
        "train 25 %, 12 of 48, 3 images/s, 12 s left (train-norm)",
        "train 25 %, 12 of 48, 3 images/s, 12 s left",
        "train ran (5.0 s)",
        "variant KID x1000",
        "cs-10 415.4 ± 25.4",
        "demo-0123: 1 ran",
        "in the worker's clone uv run dvc exp apply demo-0123",
        "elsewhere, if pushed uv run dvc exp pull origin demo-0123, then the same",
    ]
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places), printed
    assert "S3 is away; trying again in 5 s" in lines  # wherever: logs reach the server later than states
    assert "heartbeat" not in printed
    assert "pull step" not in printed
    assert failed.state is not None
    assert failed.state.is_failed()
    assert reason.splitlines()[-1] == "demo-0123 failed: train: the loss is not finite"
    assert "train              to be tried again" in reason
    assert "train              failed: the loss is not finite" in reason
    assert "Traceback" not in reason


@pytest.mark.usefixtures("here")
def test_a_run_without_stages_is_told_to_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the nightly re-evaluation, with the bar that it has."""
    monkeypatch.setattr(watch, "EVERY", 0.5)
    monkeypatch.setattr(watch, "PROGRESS_EVERY", 0.5)
    run, printed = created(server), io.StringIO()
    with server.client() as client:
        client.set_flow_run_state(run, Running())
        bar = {"type": "progress", "key": "progress-reevaluate", "data": 25.0, "description": "sample: 12 of 48"}
        client.create_artifact(ArtifactCreate(**bar, flow_run_id=run))

    async def watched() -> None:
        async with get_client() as client:
            await watch.watch(client, run, Console(file=printed, width=120), timeout=4)

    with pytest.raises(FlowRunWaitTimeout):
        asyncio.run(watched())
    lines = [line.split(maxsplit=1)[1] for line in printed.getvalue().splitlines()]
    assert lines[:2] == ["running", "25 %, 12 of 48 (sample)"]


def test_ctrl_c_ends_the_watching_alone(server: Server) -> None:
    """Through both commands of Prefect that watch: it fails if Prefect calls another function for it."""
    program = str(Path(sys.executable).parent / "prefect")
    terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores Ctrl-C
    watching = [
        subprocess.Popen(
            (program, *words), cwd=server.folder, env=server.env, stdout=subprocess.PIPE, text=True, preexec_fn=terminal
        )
        for words in (("deployment", "run", "train-demo", "--watch"), ("flow-run", "watch", str(created(server))))
    ]
    for process in watching:
        assert process.stdout is not None
        printed = ""
        while "waiting for a worker" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
        found = re.search(r"prefect flow-run watch (\S+)\n.*prefect flow-run cancel (\S+)", rest)
        assert found is not None, rest
        assert process.returncode == 130
        with server.client() as client:
            assert state_of(client, UUID(found[1])).is_scheduled()


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_does_not_end_the_watching(server: Server) -> None:
    run = created(server)
    process = server.start("watching", str(Path(sys.executable).parent / "prefect"), "flow-run", "watch", str(run))
    log = server.folder / "watching.log"
    wait_for(lambda: "waiting for a worker" in log.read_text(), 30)
    end(server.processes[:1])
    wait_for(lambda: "the server does not answer" in log.read_text(), 120)
    port = server.url.rpartition(":")[2].partition("/")[0]
    command = ("server", "start", "--host", "127.0.0.1", "--port", port)
    server.processes[0] = server.start("server", sys.executable, "-m", "prefect", "--no-prompt", *command)
    time.sleep(10)
    executed(server, run)
    assert process.wait(120) == 0
    assert "dvc exp apply demo-0123" in log.read_text()
