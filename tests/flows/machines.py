"""Two machines that share S3, a git server and a Prefect server, but no disk: for tests of the whole dispatch."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import yaml
from prefect.client.schemas.objects import FlowRun

from flows.local.processes import variable
from tests.conftest import ROOT, SMALL, Tree, change
from tests.flows.server import Server, prefect_server, wait_for
from tests.s3_server import S3
from tests.stages.conftest import commit, new_clone, run_in

TINY = {**SMALL, "train.images": 96}
"""Changes that make the demo a matter of seconds."""
PROGRAMS = Path(sys.executable).parent


@dataclass
class Machines:
    """`driver` is the clone of the cpu worker, `gpu` that of the gpu worker; both are clones of `origin`."""

    server: Server
    s3: S3
    bucket: str
    origin: Path
    driver: Path
    gpu: Path

    @property
    def env(self) -> dict[str, str]:
        """What a person or worker has in the environment."""
        return self.server.env | self.s3.env | {"CSPIPE_S3": f"s3://{self.bucket}/tests", "DVC_NO_ANALYTICS": "1"}

    def worker(self, name: str, clone: Path, pool: str) -> subprocess.Popen[bytes]:
        """A process worker of a pool in a clone, with nothing of the other's."""
        variables = self.s3.env | {"CSPIPE_S3": f"s3://{self.bucket}/tests", "PYTHONPATH": str(clone)}
        return self.server.worker(name, pool, CSPIPE_HOME=str(clone), **variables)

    def supervisor(self) -> subprocess.Popen[bytes]:
        """What notices that a worker was lost, as soon as Prefect's shortest heartbeat allows."""
        command = (sys.executable, "-m", "flows.supervise", "--window", "90", "--every", "5")
        return self.server.start("supervisor", *command, PYTHONPATH=str(self.driver))

    def type(self, *command: str, clone: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command that a person types in the driver's clone."""
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        folder = clone or self.driver
        env = self.env | {"PATH": path, "PYTHONPATH": str(folder)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def train(self, overrides: Tree | None = None) -> UUID:
        """Queue the demo by its bare name; returns the flow run's id."""
        return self.queue("train-demo", "-p", f"overrides={json.dumps(overrides or {})}")

    def queue(self, *arguments: str, clone: Path | None = None) -> UUID:
        """Type `prefect deployment run ...`; returns the flow run's id."""
        done = self.type("prefect", "deployment", "run", *arguments, clone=clone)
        return UUID(next(line.split(":")[-1].strip() for line in done.stdout.splitlines() if "UUID" in line))

    def ended(self, flow_run: UUID, seconds: float) -> FlowRun:
        wait_for(lambda: self.read(flow_run).state.is_final(), seconds)
        return self.read(flow_run)

    def read(self, flow_run: UUID) -> Any:
        with self.server.client() as client:
            return client.read_flow_run(flow_run)

    def logs(self) -> str:
        """The ends of all logs, for a test's failure message."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-6000:]}" for log in self.server.folder.glob("*.log"))

    def states(self) -> list[str]:
        answer = self.s3.client().list_objects_v2(Bucket=self.bucket, Prefix="tests/states/train/")
        return [entry["Key"] for entry in answer.get("Contents", []) if entry["Key"].endswith(".pt")]

    def working(self, run: str) -> list[int]:
        """Pids of the stages of a run, wherever they work."""
        return [process.pid for process in psutil.process_iter() if variable(process, "CSPIPE_FLOW_RUN") == run]

    def log_has(self, name: str, text: str) -> bool:
        file = self.server.folder / f"{name}.log"
        return file.exists() and text in file.read_text(errors="replace")


@contextmanager
def machines(folder: Path, s3: S3) -> Iterator[Machines]:
    """Server, origin, two clones, pools and deployments; no workers yet."""
    (folder / "work").mkdir(parents=True)
    write_preset(new_clone(folder / "work", yaml.safe_load((ROOT / "params.yaml").read_text())))
    origin = folder / "origin.git"
    run_in(folder, "git", "clone", "-q", "--bare", str(folder / "work"), str(origin))
    with prefect_server(folder) as server:
        driver, gpu = cloned(origin, folder / "driver"), cloned(origin, folder / "gpu")
        place = Machines(server, s3, s3.new_bucket(), origin, driver, gpu)
        for pool in ("cpu", "gpu"):
            place.type("prefect", "work-pool", "create", pool, "--type", "process")
        place.type("prefect", "--no-prompt", "deploy", "-n", "train-demo", "-n", "run-stage-gpu")
        yield place


def write_preset(clone: Path) -> None:
    """Make the preset `demo` of a clone one of seconds, with one variant."""
    file = clone / "cspipe/config/presets/demo.yaml"
    params = change(yaml.safe_load(file.read_text()), TINY)
    params["variants"] = {"cs-10": params["variants"]["cs-10"]}
    file.write_text(yaml.safe_dump(params, sort_keys=False))
    commit(clone, "a demo of seconds")


def cloned(origin: Path, folder: Path) -> Path:
    run_in(origin, "git", "clone", "-q", str(origin), str(folder))
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        run_in(folder, "git", "config", key, value)
    return folder
