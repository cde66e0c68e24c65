"""What the local stack is made of: how each part is started and waited for, and how it is."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from cspipe.errors import UserError
from cspipe.files import whole_file
from cspipe.storage import Bucket
from flows.local import processes, workers
from flows.local.processes import Part, Program
from flows.local.s3_server import is_free, start_s3
from flows.local.stack import STACK, Stack

PATIENCE = 180.0
"""Seconds for a part to be ready: some seconds each on a machine with nothing else to do."""
PORT = 4200
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""With Prefect's default, in memory, a restart of the server ends healthy runs that hold a concurrency slot."""
BUCKET, REGION = "cspipe", "us-east-1"
LOW_DISK = 5.0
"""GB free below which `cspipe status` warns."""


def start_all(stack: Stack, s3: str | None, port: int | None, gpus: list[str] | None) -> None:
    """Start every part, each ready before the next that needs it. Raises UserError with the last lines of its log."""
    number = _port(port)
    aws = _own_store(stack) if s3 is None else _given_store(stack, s3)
    base = _server(stack, number)
    with SyncPrefectClient(stack.api) as client:
        _pools(client)
        here = {"CSPIPE_S3": stack.s3, "CSPIPE_HOME": os.fspath(stack.home), "CSPIPE_ONE_CLONE": "1"}
        environment = base | aws | here
        found = workers.visible_gpus() if gpus is None else gpus
        since = time.time()
        started = {
            pool: [_start(stack, program) for program in workers.programs(pool, stack.home, environment, found)]
            for pool in workers.SLOTS
        }
        supervisor = [sys.executable, "-m", "flows.supervise"]
        watcher = _start(stack, Program("supervisor", supervisor, stack.home, base, grace=5))
        _deploy(stack, client, base)
        for pool, parts in started.items():
            names = {workers.worker_name(part.name) for part in parts}
            _until(lambda pool=pool, names=names: names <= workers.online(client, pool, since), *parts)  # type: ignore[misc]
            _say(f"workers of {pool}: {', '.join(sorted(names))}")
        _until(lambda: True, watcher)


def health(stack: Stack) -> Iterator[tuple[str, bool, str]]:
    """Name, whether it is well, and a few words, for each part and what it serves."""
    for part in stack.parts:
        runs = part.process is not None
        yield part.name, runs, f"process {part.pid}" if runs else f"has ended; see {part.log}"
    yield from _server_health(stack)
    yield "S3", *_s3_health(stack)
    free = shutil.disk_usage(stack.home).free / 1e9
    yield "disk", free > LOW_DISK, f"{free:.0f} GB free"


def _own_store(stack: Stack) -> dict[str, str]:
    """Start SeaweedFS and make the bucket; the variables to reach it."""
    folder = stack.home / STACK
    keys = _keys(folder / "keys.json")
    _say("S3 store ...")
    server = start_s3(folder / "s3", None, keys["access_key"], keys["secret_key"])
    stack.add(processes.as_part("s3", server.process.pid, folder / "s3" / "server.log", grace=4))
    stack.s3, stack.endpoint = f"s3://{BUCKET}/stack", server.url
    client = _store_client(server.url, keys)
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    _say(f"S3 store ready at {server.url}")
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": keys["access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _given_store(stack: Stack, url: str) -> dict[str, str]:
    """Check the bucket; what reaches it stands in our own environment already."""
    Bucket.from_url(url).check()
    stack.s3 = url
    _say(f"S3 bucket {url} answers")
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def _store_client(endpoint: str, keys: dict[str, str]) -> Any:
    """A boto3 client of the stack's own store, whatever the environment says."""
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=keys["access_key"], aws_secret_access_key=keys["secret_key"],
        region_name=REGION, config=Config(connect_timeout=5, read_timeout=20),
    )  # fmt: skip


def _keys(file: Path) -> dict[str, str]:
    """The store's keys: made once, readable by their owner alone."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as beside:
            beside.touch(mode=0o600)
            beside.write_text(json.dumps({"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}))
    keys: dict[str, str] = json.loads(file.read_text())
    return keys


def _port(wanted: int | None) -> int:
    """The server's port. Raises UserError if one was asked for that is taken."""
    if wanted is not None and not is_free(wanted):
        raise UserError(f"port {wanted} of 127.0.0.1 is taken; end what uses it, or name another with --port")
    if wanted is not None or is_free(PORT):
        return wanted or PORT
    other = _any_port()
    _say(f"port {PORT} is taken by something else; the server gets {other}")
    return other


def _server(stack: Stack, port: int) -> dict[str, str]:
    """Start Prefect's server; the environment that it and its clients share, without any S3 credentials."""
    stack.api = f"http://127.0.0.1:{port}/api"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))}
    base = inherited | {
        processes.MARK: stack.mark,
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": stack.api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(workers.HEARTBEAT),
        "PREFECT_HOME": os.fspath(stack.home / STACK / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--host", "127.0.0.1", "--port", str(port)
    ]  # fmt: skip
    _say("Prefect server ...")
    part = _start(stack, Program("server", command, stack.home, base, grace=10))
    _until(lambda: _answers(stack.api), part)
    _say(f"Prefect server ready at {stack.ui}")
    return base


def _pools(client: SyncPrefectClient) -> None:
    for pool in workers.SLOTS:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    try:
        queue = client.read_work_queue_by_name(workers.SWEEPS, work_pool_name="cpu")
    except ObjectNotFound:
        queue = client.create_work_queue(workers.SWEEPS, work_pool_name="cpu")
    client.update_work_queue(queue.id, concurrency_limit=workers.SLOTS["cpu"] - 1)


def _deploy(stack: Stack, client: SyncPrefectClient, environment: dict[str, str]) -> None:
    """Register what prefect.yaml lists; the same again changes nothing."""
    _say("deployments ...")
    log = stack.logs / "deploy.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=stack.home, env=environment, stdout=out, stderr=out, check=False)
    listed = yaml.safe_load((stack.home / "prefect.yaml").read_text())["deployments"]
    there = {deployment.name for deployment in client.read_deployments()}
    missing = [entry["name"] for entry in listed if entry["name"] not in there]
    if done.returncode != 0 or missing:
        _say(processes.tail(log))
        raise UserError(f"not all deployments of prefect.yaml could be registered ({', '.join(missing)}); see {log}")
    _say(f"deployments: {', '.join(entry['name'] for entry in listed)}")


def _start(stack: Stack, program: Program) -> Part:
    return stack.add(processes.start(program, stack.logs / f"{program.name}.log"))


def _until(ready: Callable[[], bool], *parts: Part) -> None:
    """Wait for something that parts do. Raises UserError if one of them ends before, or it takes too long."""
    patience = time.monotonic() + PATIENCE
    while True:
        for part in parts:
            if part.process is None:
                _say(processes.tail(Path(part.log)))
                raise UserError(f"{part.name} has ended while starting; its last lines are above, all in {part.log}")
        if ready():
            return
        if time.monotonic() > patience:
            _say(processes.tail(Path(parts[0].log)))
            raise UserError(f"{parts[0].name} is not ready after {PATIENCE:.0f} s; see {parts[0].log}")
        time.sleep(0.3)


def _answers(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _server_health(stack: Stack) -> Iterator[tuple[str, bool, str]]:
    """The API, and per pool the workers that gave a sign of life, with its age."""
    try:
        with SyncPrefectClient(stack.api, httpx_settings={"timeout": 10.0}) as client:
            yield "API", True, stack.api
            for pool in workers.SLOTS:
                found = client.read_workers_for_work_pool(pool)
                there = [worker for worker in found if worker.status.value == "ONLINE" and worker.last_heartbeat_time]
                ages = [
                    f"{worker.name} ({time.time() - worker.last_heartbeat_time.timestamp():.0f} s ago)"
                    for worker in there if worker.last_heartbeat_time
                ]  # fmt: skip
                yield f"pool {pool}", bool(there), ", ".join(ages) or "no worker online"
    except (httpx.HTTPError, RuntimeError) as error:
        yield "API", False, f"{stack.api} gives no answer: {error or type(error).__name__}"


def _s3_health(stack: Stack) -> tuple[bool, str]:
    try:
        if stack.endpoint:
            _store_client(stack.endpoint, _keys(stack.home / STACK / "keys.json")).head_bucket(Bucket=BUCKET)
        else:
            Bucket.from_url(stack.s3).check()
    except (UserError, BotoCoreError, ClientError) as error:
        return False, str(error).splitlines()[0]
    return True, stack.s3


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    print(text, flush=True)
