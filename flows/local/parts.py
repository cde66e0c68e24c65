"""Start the parts of a local stack (S3 store, server, workers, supervisor), and wait until they are ready."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from urllib.parse import urlsplit

import psutil
from prefect.client.orchestration import SyncPrefectClient

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from flows.local import processes, s3_server, workers
from flows.local.processes import Part, Program, say
from flows.local.record import STACK, Stack
from flows.local.stopping import S3, SERVER, SUPERVISOR
from flows.setup import SLOTS, create_bucket, create_pools, deploy

PATIENCE = 180.0
"""Seconds that a part may take to be ready; on an idle machine each needs a few."""
PORT = 4200
"""Default port of Prefect's server; if it is taken, another free one is used."""
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""Store of concurrency leases: with Prefect's default, in memory, a server restart ends healthy runs that hold one."""
BUCKET, REGION = "cspipe", "us-east-1"
"""Bucket of the stack's own store, and the region that its clients name."""


def start_all(stack: Stack, s3: str | None, port: int | None) -> None:
    """Start every part, each ready before the next that needs it. Raises UserError with the last lines of its log."""
    stack.api = f"http://127.0.0.1:{_port(port)}/api"
    stack.gpus = workers.visible_gpus()
    say(f"the stack of {stack.home}: everything lies in {STACK}; a minute or so")
    if s3 is None:
        _start_store(stack)
    else:
        Bucket.from_url(s3).check()
        stack.s3 = s3
    say(f"S3: {stack.s3} {stack.endpoint}")
    server = start(stack, SERVER)
    _until(stack, lambda: serves(stack), server)
    say(f"Prefect server: {stack.ui}")
    with SyncPrefectClient(stack.api, auth_string=stack.keys["auth"]) as client:
        create_pools(client)
        since = time.time()
        started = [start(stack, name) for name in (*_workers(stack, {}), SUPERVISOR)]
        say(f"deployments: {', '.join(deploy(client, stack.home, _base(stack)))}")
        names = {workers.worker_name(name) for name in _workers(stack, {})}
        _until(stack, lambda: names <= workers.online(client, since), *started)
        say(f"workers: {', '.join(sorted(names))}")


def start(stack: Stack, name: str) -> Part:
    """Start a part, for the first time or again with the same ports, keys and names, without waiting for it.

    Raises UserError if another program has taken its port.
    """
    return stack.add(processes.start(_program(stack, name), stack.log(name)))


def _program(stack: Stack, name: str) -> Program:
    """Return a part's program, the same at each start; credentials of a bucket elsewhere come from the environment."""
    if name == S3:
        folder = stack.folder / "s3"
        ports = s3_server.prepare(folder, stack.keys["access_key"], stack.keys["secret_key"])
        return Program(S3, s3_server.command(folder, ports), folder, _base(stack))
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    place = ["--host", "127.0.0.1", "--port", str(urlsplit(stack.api).port)]
    if name == SERVER:
        closed = {
            "PREFECT_SERVER_API_AUTH_STRING": stack.keys["auth"],
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": stack.ui,
            "PREFECT_UI_API_URL": "/api",
        }
        return Program(SERVER, [*prefect, "server", "start", *place], stack.home, _base(stack) | closed)
    if name == SUPERVISOR:
        return Program(SUPERVISOR, [sys.executable, "-m", "flows.supervise"], stack.home, _base(stack))
    variables = _base(stack) | _aws(stack) | {"CSPIPE_S3": stack.s3, "CSPIPE_ONE_CLONE": "1"}
    return _workers(stack, variables)[name]


def _workers(stack: Stack, variables: dict[str, str]) -> dict[str, Program]:
    found = (program for pool in SLOTS for program in workers.programs(pool, stack.home, variables, stack.gpus))
    return {program.name: program for program in found}


def _start_store(stack: Stack) -> None:
    """Start the S3 store, SeaweedFS, and create the bucket when it is ready."""
    stack.s3 = f"s3://{BUCKET}/stack"
    part = start(stack, S3)
    ports = s3_server.read_ports(stack.folder / "s3")
    stack.endpoint = s3_server.endpoint(ports)
    _until(stack, lambda: s3_server.ready(stack.folder / "s3"), part)
    use_bucket(stack)
    create_bucket(stack.s3)


def use_bucket(stack: Stack) -> None:
    """Set the AWS variables of this process to those that give access to the bucket, and remove all others."""
    wanted = _aws(stack)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(wanted)


def _aws(stack: Stack) -> dict[str, str]:
    """Return the AWS variables that give access to the bucket: the stack's own, or those of the environment."""
    if not stack.endpoint:
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    keys = stack.keys
    return {
        "AWS_ENDPOINT_URL": stack.endpoint,
        "AWS_ACCESS_KEY_ID": keys["access_key"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _port(wanted: int | None) -> int:
    """Return the server's port: `wanted`, else 4200 or another free one. Raises UserError if `wanted` is taken."""
    if wanted is not None and not s3_server.is_free(wanted):
        raise UserError(f"port {wanted} of 127.0.0.1 is taken; end what uses it, or name another with --port")
    if wanted is not None or s3_server.is_free(PORT):
        return wanted or PORT
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = int(probe.getsockname()[1])
    say(f"port {PORT} is taken by something else; the server gets {other}")
    return other


def _base(stack: Stack) -> dict[str, str]:
    """Return the environment that the server and its clients share, without any S3 credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_"))}
    return inherited | {
        processes.MARK: stack.mark,
        "DO_NOT_TRACK": "1",
        "DVC_SITE_CACHE_DIR": os.fspath(stack.folder / "dvc"),  # holds pickles; DVC's default is writable by all users
        "PREFECT_API_AUTH_STRING": stack.keys["auth"],
        "PREFECT_API_URL": stack.api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(workers.HEARTBEAT),
        "PREFECT_HOME": os.fspath(stack.folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "PYTHONUNBUFFERED": "1",
    }


def _until(stack: Stack, ready: Callable[[], bool], *parts: Part) -> None:
    """Wait until `ready` returns true. Raises UserError if one of `parts` ends before that, or after PATIENCE."""
    patience = time.monotonic() + PATIENCE
    while True:
        ended = next((part for part in parts if part.process is None), None)
        if ended is not None or time.monotonic() > patience:
            part = ended or parts[0]
            why = "has ended while starting" if ended else f"is not ready after {PATIENCE:.0f} s"
            log = stack.log(part.name)
            raise UserError(f"{part.name} {why}; all in {log}, its last lines:\n{processes.tail(log)}")
        if ready():
            return
        time.sleep(0.3)


def serves(stack: Stack) -> bool:
    """Whether the server answers and owns its port.

    Another program on the port would get the password, and could command the workers.
    """
    part = next((part for part in stack.parts if part.name == SERVER), None)
    with suppress(psutil.Error):
        for process in processes.running([part.process] if part is not None and part.process is not None else []):
            for socket_ in process.net_connections("tcp"):
                if socket_.status == psutil.CONN_LISTEN and socket_.laddr.port == urlsplit(stack.api).port:
                    return answers(stack.api)
    return False


def answers(api: str) -> bool:
    """Whether a Prefect server answers at the address `api`."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, HTTPException):  # no listener, no address, or another program
        return False
