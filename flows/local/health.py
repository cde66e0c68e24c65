"""`cspipe status`: whether each part of the stack and what it serves is well, and what runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import get_current_settings

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from flows.local import runs, workers
from flows.local.stack import Stack
from flows.local.stack_parts import BUCKET, answers, store_client

Line = tuple[str, bool, str]
"""Name, whether it is well, and a few words."""
LOW_DISK = 5.0
"""GB free below which it is not well."""


def elsewhere() -> str | None:
    """The server of PREFECT_API_URL or of Prefect's profile, for a folder in which no stack runs."""
    return get_current_settings().api.url


def health(stack: Stack | None, api: str) -> Iterator[Line]:
    """A line for each part of a stack and for what it serves; without a stack, for a server and its pools."""
    for part in [] if stack is None else stack.parts:
        running = part.process is not None
        yield part.name, running, f"process {part.pid}" if running else f"has ended; see {part.log}"
    there = answers(api)
    yield "API", there, api if there else f"{api} gives no answer"
    if stack is not None:
        yield "S3", *_s3(stack)
        free = shutil.disk_usage(stack.home).free / 1e9
        yield "disk", free > LOW_DISK, f"{free:.0f} GB free"
    if there:
        yield from _asked(api, _pools)


def unfinished(api: str) -> list[str]:
    """What runs, a line each, or that nothing does; nothing if the server does not answer."""
    if not answers(api):
        return []
    told = _asked(api, lambda client: [("runs", True, line) for line in runs.lines(client)])
    return [text for _, _, text in told] or ["no run is at work or waits"]


def _asked(api: str, ask: Callable[[SyncPrefectClient], Iterable[Line]]) -> list[Line]:
    """What a server says; one line if it has just stopped to answer."""
    try:
        with SyncPrefectClient(api, httpx_settings={"timeout": 10.0}) as client:
            return list(ask(client))
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        return [("server", False, f"{api} has stopped to answer: {error or type(error).__name__}")]


def _pools(client: SyncPrefectClient) -> Iterator[Line]:
    """Per pool the workers that gave a sign of life, with its age."""
    for pool in workers.SLOTS:
        try:
            paused = client.read_work_pool(pool).is_paused
        except ObjectNotFound:
            yield f"pool {pool}", False, "not on this server; `cspipe up` makes it"
            continue
        found = client.read_workers_for_work_pool(pool)
        ages = [
            f"{worker.name} ({time.time() - worker.last_heartbeat_time.timestamp():.0f} s ago)"
            for worker in found if worker.status.value == "ONLINE" and worker.last_heartbeat_time
        ]  # fmt: skip
        told = ", ".join(ages) or "no worker online"
        yield f"pool {pool}", bool(ages) and not paused, f"paused; {told}" if paused else told


def _s3(stack: Stack) -> tuple[bool, str]:
    try:
        if stack.endpoint:
            store_client(stack).head_bucket(Bucket=BUCKET)
        else:
            Bucket.from_url(stack.s3).check()
    except (UserError, BotoCoreError, ClientError) as error:
        return False, str(error).splitlines()[0]
    return True, stack.s3
