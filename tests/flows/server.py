"""A real Prefect server on loopback, and a small project folder with deployments, for the tests of this folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psutil
from filelock import FileLock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.local.parts import answers
from tests.conftest import ROOT

FLOW = """
import json, os, time
from pathlib import Path
from uuid import UUID
from prefect import flow

@flow
def small(seconds: float = 0, revision: str = "", overrides: dict = {}) -> str:
    Path("ran.txt").open("a").write(f"{os.getpid()} {revision} {overrides}\\n")
    Path("env.json.partial").write_text(json.dumps(dict(os.environ)))
    Path("env.json.partial").rename("env.json")
    time.sleep(seconds)

@flow
def other() -> None:
    pass
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server. `run` types commands in a folder as a user of it would."""

    url: str
    folder: Path
    env: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client, with the settings that make events of this process go to this server too."""
        with temporary_settings({PREFECT_API_URL: self.url}), SyncPrefectClient(self.url) as client:
            yield client
            EventsWorker.drain_all(timeout=10)  # while the server is there to take them
            APILogWorker.drain_all(timeout=10)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def deploy(self, *pools: str) -> None:
        """Make process pools, and register what prefect.yaml has."""
        for pool in pools:
            self.prefect("work-pool", "create", pool, "--type", "process")
        self.prefect("--no-prompt", "deploy", "--all")

    def prefect(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The console script, as people type it."""
        return self.run(str(Path(sys.executable).parent / "prefect"), *arguments, check=check)

    def start(self, name: str, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Something that runs until it is killed; its output goes to a file of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.env | variables, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process

    def worker(
        self, name: str, pool: str = "cpu", limit: int | None = None, **variables: str
    ) -> subprocess.Popen[bytes]:
        """A worker of the project folder, or of another CSPIPE_HOME."""
        command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process")
        slots = () if limit is None else ("--limit", str(limit))
        return self.start(name, *command, "--name", name, *slots, **{"CSPIPE_HOME": str(self.folder)} | variables)


def state_of(client: SyncPrefectClient, run: UUID) -> State:
    """The state of a flow run."""
    state = client.read_flow_run(run).state
    assert state is not None
    return state


def write_project(folder: Path, deployments: str) -> None:
    """A folder with the flows above, a prefect.yaml and this project's Prefect settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.py").write_text(FLOW)
    (folder / "prefect.yaml").write_text(f"pull:\n  - flows.home.enter: {{}}\ndeployments:\n{deployments}")
    shutil.copy(ROOT / "pyproject.toml", folder)


def foreign() -> dict[str, str]:
    """The environment without what it says of Prefect and of this project."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CSPIPE_"))}


def migrated(folder: Path) -> Path:
    """Prefect's home with an empty database, made once for all of pytest's workers.

    Making one takes a server longer than the rest of its start. `folder` is in the folder of this run of pytest.
    """
    home = next((path for path in folder.parents if path.parent.name.startswith("pytest-of-")), folder) / "migrated"
    with FileLock(home.with_suffix(".lock")):
        if not home.exists():
            half = home.with_suffix(".half")
            half.mkdir()
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            env = foreign() | {"PREFECT_HOME": str(half)}
            done = subprocess.run(command, cwd=half, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            half.rename(home)
    return home


@contextmanager
def prefect_server(folder: Path) -> Iterator[Server]:
    """Start a server whose data lie in `folder`/home; the project is `folder`/project. Everything started ends."""
    url = f"http://127.0.0.1:{(port := free_port())}/api"
    env = foreign() | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }
    server = Server(url, folder / "project", env)
    server.folder.mkdir()
    shutil.copytree(migrated(folder), folder / "home", dirs_exist_ok=True)
    try:
        command = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
        process = server.start("server", sys.executable, "-m", "prefect", "--no-prompt", *command)
        wait_for(lambda: _healthy(url, process), 120)
        yield server
    finally:
        end(server.processes)


def wait_for(ready: object, seconds: float) -> None:
    """Poll until `ready()`; fail the test after `seconds`."""
    assert callable(ready)
    patience = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < patience, f"not within {seconds} s"
        time.sleep(0.3)


def end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill processes and all below them: flow runs are sessions of their own."""
    for process in reversed(started):
        if process.poll() is None:
            for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def _healthy(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server ended"
    return answers(url)
