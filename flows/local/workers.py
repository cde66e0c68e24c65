"""Workers of the pools `cpu` and `gpu`: how they start, and `cspipe worker POOL`, which starts them on any machine."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from flows import password
from flows.credentials import take_from_block
from flows.local import processes
from flows.local.processes import Part, Program
from flows.local.stopping import GRACE
from flows.setup import SLOTS

HEARTBEAT = 30
"""Seconds between heartbeats of a flow run; the fewest that Prefect allows."""


def visible_gpus() -> list[str]:
    """Return the GPUs to use, as CUDA_VISIBLE_DEVICES names them: its entries if it is set, else the UUIDs of all.

    UUIDs, not numbers: nvidia-smi counts GPUs by slot, CUDA by speed.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU .*\(UUID: (GPU-[\w-]+)\)", listed, re.MULTILINE)


def programs(pool: str, home: Path, environment: Mapping[str, str], gpus: list[str]) -> list[Program]:
    """Return the programs of a pool's workers: one for cpu; for gpu one per GPU, and one if there is no GPU.

    Each worker of gpu sees all of `gpus`: a stage locks those that it takes (runtime/gpu_lock.py), and compute.gpus may
    be more than one.
    """
    shared = dict(environment) | {
        "CSPIPE_HOME": os.fspath(home),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if pool != "gpu":
        return [_program(pool, pool, home, shared)]
    return [
        _program(pool, f"{pool}-{number}", home, shared | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)})
        for number in range(max(1, len(gpus)))
    ]


def worker_name(part: str) -> str:
    """Return the name of a worker in Prefect: the same after a restart, different on every machine."""
    return f"{part}-{socket.gethostname()}"


def worker(pool: str) -> None:
    """Check what a worker needs, start the pool's workers and wait for them; Ctrl-C or SIGTERM ends them.

    Raises UserError with a line per failed check, before any start; also when all workers have ended by themselves.
    """
    home = Path.cwd()
    checks = [_server_problem(pool), _s3_problem(), _git_problem(home)]
    if not (home / "prefect.yaml").is_file():
        checks.append(f"clone: {home} holds no prefect.yaml; start the worker in a clone of the project")
    if problems := [problem for problem in checks if problem]:
        raise UserError("\n".join([f"no worker started; {len(problems)} check(s) failed", *problems]))
    api = str(get_current_settings().api.url)
    environment = dict(os.environ) | {"PREFECT_API_URL": api, processes.MARK: os.urandom(8).hex()}
    processes.signals_interrupt()
    parts: list[Part] = []
    try:
        for program in programs(pool, home, environment, visible_gpus()):
            parts.append(processes.start(program, None))
            print(f"worker {worker_name(program.name)} for the pool {pool} at {api}; Ctrl-C ends it", flush=True)
        while any(part.process for part in parts):
            time.sleep(1)
        raise UserError(f"all workers of the pool {pool} have ended; see their last lines above")
    except KeyboardInterrupt:
        print(f"stopping; stages store their state, at most {GRACE:.0f} s", flush=True)
    finally:
        processes.ignore_signals()
        processes.stop([part.process for part in parts], GRACE)
        processes.stop(processes.find_marked(environment[processes.MARK]), GRACE)


def online(client: SyncPrefectClient, since: float) -> set[str]:
    """Return the names of the online workers whose last heartbeat is not before `since` (seconds since 1970)."""
    found = (worker for pool in SLOTS for worker in client.read_workers_for_work_pool(pool))
    return {
        worker.name
        for worker in found
        if worker.status.value == "ONLINE"
        and worker.last_heartbeat_time is not None
        and worker.last_heartbeat_time.timestamp() >= since
    }


def _program(pool: str, name: str, home: Path, environment: Mapping[str, str]) -> Program:
    command = [
        sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process",
        "--name", worker_name(name), "--limit", str(SLOTS.get(pool, 1)), "--no-create-pool-if-not-found",
    ]  # fmt: skip
    return Program(name, command, home, environment)


def _server_problem(pool: str) -> str | None:
    """Return what is wrong with the server or the pool, None if nothing is."""
    url = get_current_settings().api.url
    if url is None:
        return "Prefect: PREFECT_API_URL is not set; set it to the server's, for instance http://HOST:4200/api"
    try:
        with get_client(httpx_settings={"timeout": 10.0}, sync_client=True) as client:
            client.read_work_pool(pool)
    except ObjectNotFound:
        return f"Prefect: no work pool {pool!r} at {url}; the pools are cpu and gpu, and `uv run cspipe up` makes them"
    except (httpx.HTTPError, RuntimeError) as error:
        if password.refused(error):
            return f"Prefect: the server at {url} refuses the password; {password.FIX}"
        reason = str(error).partition("\n")[0] or type(error).__name__
        right = "are PREFECT_API_URL and PREFECT_API_AUTH_STRING right?"
        return f"Prefect: the server at {url} gives no answer ({reason}); {right}"
    return None


def _s3_problem() -> str | None:
    url = os.environ.get("CSPIPE_S3")
    if not url:
        return "S3: CSPIPE_S3 is not set; set it to the s3://bucket/prefix that the machines share"
    try:
        take_from_block()
        Bucket.from_url(url).check()
    except UserError as error:
        return f"S3: {error}"
    except (httpx.HTTPError, RuntimeError):
        return "S3: no credentials in the environment, and the server with the Secret block gives no answer"
    return None


def _git_problem(home: Path) -> str | None:
    """Return what is wrong with the clone's origin, from which revisions are fetched; None if nothing is."""
    command = ["git", "ls-remote", "--exit-code", "--heads", "origin"]
    quiet = dict(os.environ) | {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}
    try:
        subprocess.run(command, cwd=home, env=quiet, capture_output=True, text=True, timeout=30, check=True)
    except subprocess.TimeoutExpired:
        return f"git: origin of {home} gives no answer in 30 s; check `git remote -v`"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().partition("\n")[0] or "it has no branch"
        return f"git: origin of {home} cannot be read ({reason}); check `git remote -v` and the key"
    return None
