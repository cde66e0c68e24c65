"""The pods of kubernetes/ as processes of this machine: their commands, arguments and environment, as the image's user.

Not here: the dispatcher, which needs a cluster, and Postgres, whose image is not installed. Takes a minute or two.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.conftest import ROOT
from tests.flows.server import end, free_port, wait_for
from tests.infra.postgres import Postgres, binaries, running_postgres
from tests.infra.test_image import ENTRYPOINT, USER, instructions
from tests.infra.test_kubernetes import PODS, containers
from tests.s3_server import S3

BIN = binaries()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BIN is None, reason="Postgres is not installed (Debian: apt-get install postgresql)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start the pods as the image's user"),
]
READS = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
"""Python and this clone may lie where only root may look."""


@dataclass
class Pods:
    """Starts containers. `secrets`: all variables of infra/.env."""

    folder: Path
    secrets: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, pod: str, name: str, **own: str) -> subprocess.Popen[bytes]:
        """A container of a pod, `own` being what is different on this machine; its output goes to NAME.log."""
        container = next(found for found in containers(PODS[pod]) if found["name"] == name)
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, 1000, 1000)
        image = dict(part.split("=", 1) for word, rest in instructions() if word == "ENV" for part in rest.split())
        env = {name: value.replace("/home/cspipe", str(home)) for name, value in image.items()}
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home)}
        env |= {"CSPIPE_HOME": str(self.folder / pod), "CSPIPE_PINS": str(self.folder / "pins.toml")}
        env |= self.secrets if "envFrom" in container else {}
        for variable in container.get("env", []):
            key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
            env[variable["name"]] = self.secrets[key] if key else variable["value"]
        command = [*container.get("command", ["sh", str(ENTRYPOINT)]), *container.get("args", [])]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*USER, *READS, *command], env=env | own, cwd=home, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    assert BIN is not None
    with running_postgres(BIN) as cluster:
        yield cluster


@pytest.fixture
def pods(env: dict[str, str], s3: S3) -> Iterator[Pods]:
    """infra/.env of this machine: this clone's commit as the repository, empty volumes."""
    folder = Path(tempfile.mkdtemp(prefix="cspipe-pods-"))  # pytest's folder is root's alone
    origin = folder / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, origin], check=True)
    pyproject = (ROOT / "pyproject.toml").read_text()
    (folder / "pins.toml").write_text(pyproject[pyproject.index("constraint-dependencies") :])
    folder.chmod(0o755)
    subprocess.run(["chown", "--recursive", "1000:1000", origin], check=True)
    for name in ("cpu-worker", "supervisor"):
        (folder / name).mkdir()
        os.chown(folder / name, 0, 1000)
        (folder / name).chmod(0o2775)
    place = {"CSPIPE_REPOSITORY": str(origin), "CSPIPE_REVISION": "HEAD", "CSPIPE_S3": "s3://pods/main"}
    place |= {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}
    found = Pods(folder, env | s3.env | place)
    try:
        yield found
    finally:
        end(found.processes)
        shutil.rmtree(folder)


def test_setup_worker_and_supervisor_start_as_their_pods_say(pods: Pods, postgres: Postgres) -> None:
    api = httpx.URL(pods.secrets["PREFECT_API_URL"])
    pods.start(
        "server", "server", PREFECT_SERVER_API_HOST="127.0.0.1", PREFECT_SERVER_API_PORT=str(api.port),
        PREFECT_API_DATABASE_CONNECTION_URL=postgres.url,
    )  # fmt: skip
    early = pods.start("cpu-worker", "setup")
    assert early.wait(120), "there is no server yet: it is tried again"
    wait_for(lambda: _answers(f"{api}/health"), 120)
    assert _answers(f"{api.copy_with(path='/')}"), "the UI, which the image's user may not write beside the code"
    for _ in range(2):
        assert pods.start("cpu-worker", "setup").wait(240) == 0, pods.log("setup")
    supervisor, worker = pods.start("supervisor", "supervisor"), pods.start("cpu-worker", "worker")
    with SyncPrefectClient(str(api), auth_string=pods.secrets["PREFECT_API_AUTH_STRING"]) as client:
        wait_for(lambda: worker.poll() is not None or client.read_workers_for_work_pool("cpu"), 120)
    assert worker.poll() is None, pods.log("worker")
    assert supervisor.poll() is None, pods.log("supervisor")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, follow_redirects=True).is_success
    except httpx.TransportError:
        return False
