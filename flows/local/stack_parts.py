"""What the local stack is made of: how each part is started and waited for, and how it is."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import yaml
from botocore.config import Config
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.storage import Bucket
from flows.local import processes, workers
from flows.local.processes import Part, Program
from flows.local.s3_server import S3Server, is_free, launch_s3, start_s3
from flows.local.stack import KEEPER, STACK, Stack, read

PATIENCE = 180.0
"""Seconds for a part to be ready: some seconds each on a machine with nothing else to do."""
PORT = 4200
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""With Prefect's default, in memory, a restart of the server ends healthy runs that hold a concurrency slot."""
BUCKET, REGION = "cspipe", "us-east-1"
AGAIN = signal.SIGUSR1
"""What has the keeper start at once what has ended, also what it has given up."""


def start_all(stack: Stack, s3: str | None, port: int | None, gpus: list[str] | None) -> None:
    """Start every part, each ready before the next that needs it. Raises UserError with the last lines of its log."""
    number = _port(port)
    _say(f"the stack of {stack.home}: everything lies in {STACK}; a minute or so")
    if s3 is None:
        _own_store(stack)
    else:
        Bucket.from_url(s3).check()
        stack.s3 = s3
        _say(f"S3 bucket {s3} answers")
    stack.api = f"http://127.0.0.1:{number}/api"
    stack.gpus = workers.visible_gpus() if gpus is None else gpus
    wanted = programs(stack)
    _say("Prefect server ...")
    server = _start(stack, wanted.pop("server"))
    _until(lambda: answers(stack.api), server)
    _say(f"Prefect server ready at {stack.ui}")
    with SyncPrefectClient(stack.api) as client:
        _pools(client)
        since = time.time()
        started = {name: _start(stack, program) for name, program in wanted.items()}
        _deploy(stack, client)
        for pool in workers.SLOTS:
            parts = [part for name, part in started.items() if name in _workers(stack, pool)]
            names = {workers.worker_name(part.name) for part in parts}
            _until(lambda pool=pool, names=names: names <= workers.online(client, pool, since), *parts)  # type: ignore[misc]
            _say(f"workers of {pool}: {', '.join(sorted(names))}")
        _until(lambda: True, *started.values())


def programs(stack: Stack) -> dict[str, Program]:
    """All parts but the store, in the order in which they start: the same each time, from stack.json and the keys.

    The credentials of a bucket that was given are the environment's.
    """
    base = _base(stack)
    here = {"CSPIPE_S3": stack.s3, "CSPIPE_HOME": os.fspath(stack.home), "CSPIPE_ONE_CLONE": "1"}
    whole = base | _aws(stack) | here
    port = str(urlsplit(stack.api).port)
    server = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--host", "127.0.0.1", "--port", port]
    watcher = [sys.executable, "-m", "flows.supervise"]
    keeper = [sys.executable, "-m", "flows.local.keeper"]
    listed = [
        Program("server", server, stack.home, base, grace=6),
        *(program for pool in workers.SLOTS for program in workers.programs(pool, stack.home, whole, stack.gpus)),
        Program("supervisor", watcher, stack.home, base, grace=5),
        Program(KEEPER, keeper, stack.home, whole, grace=5),
    ]
    return {program.name: program for program in listed}


def start_again(stack: Stack, name: str) -> None:
    """Start a part that has ended as it was, with its ports, keys and names, and do not wait for it.

    Raises UserError if something else has its port meanwhile.
    """
    if name == "s3":
        _launch_store(stack, launch_s3)
    else:
        _start(stack, programs(stack)[name])


def mend(stack: Stack) -> None:
    """Have the keeper start what has ended, and wait until all is ready. Raises UserError if that takes too long."""
    keeper = stack.part(KEEPER)
    if keeper is not None and keeper.process is not None:
        keeper.process.send_signal(AGAIN)
    else:
        start_again(stack, KEEPER)
    patience = time.monotonic() + PATIENCE
    while (left := _not_ready(stack)) and time.monotonic() < patience:
        time.sleep(1)
    if left:
        raise UserError(f"not there after {PATIENCE:.0f} s: {left}; see the logs in {stack.logs}")


def _not_ready(stack: Stack) -> str:
    """The parts that have ended or do not answer yet, "" if there are none."""
    now = read(stack.home) or stack
    left = [part.name for part in now.ended()]
    return ", ".join(left) or ("" if answers(stack.api) else "server")


def _workers(stack: Stack, pool: str) -> list[str]:
    return [program.name for program in workers.programs(pool, stack.home, {}, stack.gpus)]


def _own_store(stack: Stack) -> None:
    """Start SeaweedFS and make the bucket."""
    _say("S3 store ...")
    _launch_store(stack, start_s3)
    client = store_client(stack)
    if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=BUCKET)
    _say(f"S3 store ready at {stack.endpoint}")


def _launch_store(stack: Stack, start: Callable[[Path, int | None, str, str], S3Server]) -> None:
    folder = stack.home / STACK / "s3"
    keys = _keys(stack)
    server = start(folder, None, keys["access_key"], keys["secret_key"])
    stack.s3, stack.endpoint = f"s3://{BUCKET}/stack", server.url
    stack.add(processes.as_part("s3", server.process.pid, folder / "server.log", grace=4))


def _aws(stack: Stack) -> dict[str, str]:
    """The variables that reach the bucket."""
    if not stack.endpoint:
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    keys = _keys(stack)
    return {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": keys["access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def store_client(stack: Stack) -> Any:
    """A boto3 client of the stack's own store, whatever the environment says."""
    keys = _keys(stack)
    return boto3.client(
        "s3", endpoint_url=stack.endpoint, aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"], region_name=REGION,
        config=Config(connect_timeout=5, read_timeout=20),
    )  # fmt: skip


def _keys(stack: Stack) -> dict[str, str]:
    """The store's keys: made once, readable by their owner alone."""
    file = stack.home / STACK / "keys.json"
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


def _base(stack: Stack) -> dict[str, str]:
    """The environment that the server and its clients share, without any S3 credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))}
    return inherited | {
        processes.MARK: stack.mark,
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": stack.api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(workers.HEARTBEAT),
        "PREFECT_HOME": os.fspath(stack.home / STACK / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "PYTHONUNBUFFERED": "1",
    }


def _pools(client: SyncPrefectClient) -> None:
    for pool in workers.SLOTS:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        client.update_work_pool(pool, WorkPoolUpdate(is_paused=False))  # `cspipe down` has paused it
    try:
        queue = client.read_work_queue_by_name(workers.SWEEPS, work_pool_name="cpu")
    except ObjectNotFound:
        queue = client.create_work_queue(workers.SWEEPS, work_pool_name="cpu")
    client.update_work_queue(queue.id, concurrency_limit=workers.SLOTS["cpu"] - 1)


def _deploy(stack: Stack, client: SyncPrefectClient) -> None:
    """Register what prefect.yaml lists; the same again changes nothing."""
    _say("deployments ...")
    log = stack.logs / "deploy.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=stack.home, env=_base(stack), stdout=out, stderr=out, check=False)
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


def answers(api: str) -> bool:
    """Whether the server is there."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    print(text, flush=True)
