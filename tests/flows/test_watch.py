"""What people see of a run that they watch, against a real server."""

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
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from flows import watch
from tests.flows.server import Server, end, prefect_server, wait_for, write_project

DEPLOYMENTS = """
  - {name: train-demo, entrypoint: "pipeline.py:pipeline", work_pool: {name: cpu}, tags: [cspipe]}
"""
PIPELINE = """
import time
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, create_table_artifact
from prefect.states import Completed

@task(task_run_name="{name}", retries=1, retry_delay_seconds=8)
def stage(name, seconds, fails):
    create_progress_artifact(25.0, key=f"progress-{name}", description=f"{name}: 12 of 48, 3 images/s, 12 s left")
    if fails:
        raise ValueError(f"{name}: the loss is not finite")
    time.sleep(seconds)
    return Completed(message=f"{name}: ran ({seconds} s)")

@flow(name="pipeline", flow_run_name="demo-0123")
def pipeline(seconds: float = 8, fails: bool = False):
    get_run_logger().warning("S3 is away; trying again in 5 s")
    stage("train", seconds, fails)
    create_table_artifact([{"variant": "cs-10", "KID x1000": "415.4 ± 25.4"}], key="scores", description="scores")
    return Completed(message="demo-0123: 1 ran")
"""


def test_what_a_run_says_is_neither_markup_nor_commands() -> None:
    rows = [{"variant": "[/x]", "ended": "\x1b[2J"}]
    console = Console(file=io.StringIO(), width=80)
    console.print(watch.table(Artifact(type="table", data=json.dumps(rows))))
    assert "[/x]" in console.file.getvalue()
    assert r"\x1b[2J" in console.file.getvalue()
    assert watch.one_line("\x1b[2J\nmore") == r"\x1b[2J"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with prefect_server(tmp_path_factory.mktemp("watch")) as server:
        write_project(server.folder, DEPLOYMENTS)
        (server.folder / "pipeline.py").write_text(PIPELINE)
        server.deploy("cpu")
        yield server


def created(server: Server, **parameters: object) -> UUID:
    """A run of the deployment, which no worker takes."""
    with server.client() as client:
        found = client.read_deployment_by_name("pipeline/train-demo")
        return client.create_flow_run_from_deployment(found.id, parameters=parameters).id


def executed(server: Server, run: UUID) -> None:
    command = (sys.executable, "-m", "prefect", "flow-run", "execute", str(run))
    server.start("execute", *command, CSPIPE_HOME=str(server.folder))


def watch_it(server: Server, run: UUID, timeout: int | None = 60) -> tuple[FlowRun, str]:
    """Watch a run in this process; returns it as it ended, and what was printed."""
    printed = Console(file=io.StringIO(), width=120)

    async def look() -> FlowRun:
        async with get_client() as client:
            return await watch.watch(client, run, printed, timeout)

    with temporary_settings({PREFECT_API_URL: server.url}):
        ended = asyncio.run(look())
    assert isinstance(printed.file, io.StringIO)
    return ended, printed.file.getvalue()


def test_a_run_is_told_stage_by_stage_and_ends_with_its_scores(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROGRESS_EVERY", 1.0)
    run = created(server)
    executed(server, run)
    ended, printed = watch_it(server, run)
    assert ended.state is not None
    assert ended.state.is_completed()
    lines = [" ".join(line.split()) for line in re.sub(r"(?m)^ +\d+:\d\d ", "", printed).splitlines()]
    wanted = [
        "waiting for a worker of pool cpu (`cspipe status` shows them)",
        "train running",
        "train 25 %, 12 of 48, 3 images/s, 12 s left",
        "train ran (8.0 s)",
        "variant KID x1000",
        "cs-10 415.4 ± 25.4",
        "demo-0123: 1 ran",
        "in the worker's clone dvc exp apply demo-0123",
        "elsewhere, if pushed dvc exp pull origin demo-0123 && dvc exp apply demo-0123",
    ]
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places), printed
    assert "S3 is away; trying again in 5 s" in lines  # wherever: logs reach the server later than states
    assert "heartbeat" not in printed
    assert "pull step" not in printed


def test_a_failed_run_ends_with_its_reason(server: Server) -> None:
    run = created(server, fails=True)
    executed(server, run)
    ended, printed = watch_it(server, run)
    assert ended.state is not None
    assert ended.state.is_failed()
    assert printed.splitlines()[-1] == "demo-0123 failed: train: the loss is not finite"
    assert "train              to be tried again" in printed
    assert "train              failed: the loss is not finite" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("command", ["deployment", "flow-run"])
def test_ctrl_c_ends_the_watching_alone(server: Server, command: str) -> None:
    """Through both commands of Prefect that watch: it fails if Prefect calls another function for it."""
    words = {
        "deployment": ("deployment", "run", "train-demo", "--watch"),
        "flow-run": ("flow-run", "watch", str(created(server))),
    }[command]
    program = (str(Path(sys.executable).parent / "prefect"), *words)
    terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores Ctrl-C
    process = subprocess.Popen(
        program, cwd=server.folder, env=server.env, stdout=subprocess.PIPE, text=True, preexec_fn=terminal
    )
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
        state = client.read_flow_run(UUID(found[1])).state
    assert state is not None
    assert state.is_scheduled()


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
