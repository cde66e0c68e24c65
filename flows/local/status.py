"""`cspipe status`: whether each part of the stack and what it serves is healthy, and which runs are active.

Stages on workers are flow runs whose parameters name the driver's flow run (flows/stage_run.py). Progress bars are
artifacts of the flow run that shows them (flows/artifacts.py).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import Artifact, FlowRun, StateType, TaskRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from flows.artifact_keys import key
from flows.local.parts import answers, use_bucket
from flows.local.record import Stack, read
from flows.local.stack import clone
from flows.setup import SLOTS

Line = tuple[str, bool, str]
"""Name of a part, whether it is healthy, and a few words about it."""
LOW_DISK = 5.0
"""Free disk space, in GB, at or below which the disk is reported as not healthy."""
WIDTH = 100
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
UNFINISHED = (StateType.RUNNING, StateType.SCHEDULED, StateType.PENDING)
WAITING = (StateType.SCHEDULED, StateType.PENDING)
STAGE, PIPELINE = "run-stage", "pipeline"


def status(as_json: bool = False) -> bool:
    """Print the health of each part and the runs, of this folder's stack or of PREFECT_API_URL; True if all is well."""
    stack = read(clone())
    settings = {} if stack is None else {PREFECT_API_URL: stack.api, PREFECT_API_AUTH_STRING: stack.keys["auth"]}
    with temporary_settings(settings):
        if (api := PREFECT_API_URL.value()) is None:
            none = "no stack runs in this folder; `uv run cspipe up` starts it"
            print(json.dumps({"parts": [], "runs": []}, indent=2) if as_json else none)
            return False
        if as_json:
            parts = [{"name": name, "well": fine, "text": text} for name, fine, text in health(stack, api)]
            print(json.dumps({"parts": parts, "runs": unfinished(api)}, indent=2))
            return all(part["well"] for part in parts)
        well = True
        for name, fine, text in health(stack, api):
            print(f"{'ok  ' if fine else 'FAIL'} {name:12} {text}", flush=True)
            well &= fine
        for line in unfinished(api):
            print(line)
        return well


def health(stack: Stack | None, api: str) -> Iterator[Line]:
    """Yield a line for each part of a stack and for what it serves; without a stack, for a server and its pools."""
    if stack is not None:
        for part in stack.parts:
            running = part.process is not None
            yield part.name, running, f"process {part.pid}" if running else f"has ended; see {stack.log(part.name)}"
        yield "S3", *_s3(stack)
        free = shutil.disk_usage(stack.home).free / 1e9
        yield "disk", free > LOW_DISK, f"{free:.0f} GB free"
    there = answers(api)
    yield "API", there, api if there else f"{api} gives no answer"
    if there:
        yield from _asked(api, _pools)


def unfinished(api: str) -> list[str]:
    """Return a line per unfinished run, or one that there is none; [] if the server does not answer."""
    if not answers(api):
        return []
    lines = _asked(api, lambda client: [("runs", True, line) for line in run_lines(client)])
    return [text for _, _, text in lines] or ["no run is at work or waits"]


def _asked(api: str, ask: Callable[[SyncPrefectClient], Iterable[Line]]) -> list[Line]:
    """Return the lines that `ask` makes from a server's answers; one line with the error if it no longer answers."""
    try:
        with get_client(httpx_settings={"timeout": 10.0}, sync_client=True) as client:
            return list(ask(client))
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        return [("server", False, f"{api} no longer answers: {error or type(error).__name__}")]


def _pools(client: SyncPrefectClient) -> Iterator[Line]:
    """Yield a line per pool: its online workers, each with the age of its last heartbeat."""
    for pool in SLOTS:
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
        text = ", ".join(ages) or "no worker online"
        yield f"pool {pool}", bool(ages) and not paused, f"paused; {text}" if paused else text


def _s3(stack: Stack) -> tuple[bool, str]:
    use_bucket(stack)
    try:
        Bucket.from_url(stack.s3).check()
    except UserError as error:
        return False, str(error).splitlines()[0]
    return True, stack.s3


def run_lines(client: SyncPrefectClient) -> list[str]:
    """Return a line per run that has not ended and is due, the oldest first: name, state, stages with their progress.

    A line has at most 100 characters. Raises what the client raises.
    """
    due = {"state": {"type": {"any_": OPEN}}, "expected_start_time": {"before_": datetime.now(UTC)}}
    if not (found := client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(due))):
        return []
    ids = {"id": {"any_": {run.flow_id for run in found}}}
    named = client.read_flows(flow_filter=FlowFilter.model_validate(ids))
    flows = {flow.id: flow.name for flow in named}
    stages = [run for run in found if flows[run.flow_id] == STAGE]
    bars = _bars(client, [run.id for run in found])
    drivers = sorted((run for run in found if run not in stages), key=lambda run: str(run.created))
    return [
        f"{_name(run, flows[run.flow_id]):32.32} {run.state_name or '':13.13} "
        f"{'; '.join(_stages(_tasks(client, run), run, stages, bars))}"[:WIDTH].rstrip()
        for run in drivers
    ]


def _name(run: FlowRun, flow: str) -> str:
    """Return a run's name, preceded by its preset (pipelines) or its flow unless it begins with that already."""
    kind = str(run.parameters.get("preset", "")) if flow == PIPELINE else flow
    return run.name if run.name.startswith(f"{kind}-") else f"{kind} {run.name}"


def _tasks(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    """Return a run's unfinished tasks, of each name only the newest: a killed attempt leaves its tasks as running."""
    of = FlowRunFilter.model_validate({"id": {"any_": [run.id]}})
    found = sorted(client.read_task_runs(flow_run_filter=of), key=lambda task: str(task.created))
    newest = {task.name: task for task in found}
    return [task for task in newest.values() if task.state_type in UNFINISHED]


def _bars(client: SyncPrefectClient, runs: Sequence[UUID]) -> dict[tuple[UUID, str], Artifact]:
    """Return the newest progress bar of each flow run and artifact key."""
    wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": runs}, "type": {"any_": ["progress"]}})
    found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC)
    return {(bar.flow_run_id, bar.key): bar for bar in reversed(found) if bar.flow_run_id and bar.key}


def _stages(
    tasks: Sequence[TaskRun], run: FlowRun, stages: Sequence[FlowRun], bars: dict[tuple[UUID, str], Artifact]
) -> list[str]:
    """Return the active stages of a run, each in a few words."""
    sent = {one.parameters["node"]["name"]: one for one in stages if one.parameters["driver"] == str(run.id)}
    stand_ins = {one.parent_task_run_id for one in stages}  # task runs that Prefect adds for flow runs queued by a task
    words = []
    for task in tasks:
        if task.id in stand_ins:
            continue
        elsewhere = sent.get(task.name)
        bar = bars.get((run.id if elsewhere is None else elsewhere.id, key("progress", task.name)))
        if task.state_type is StateType.SCHEDULED:
            words.append(f"{task.name} is tried again soon")
        elif task.state_type is StateType.PENDING and elsewhere is None:
            continue  # it waits for upstream stages
        elif elsewhere is not None and elsewhere.state_type in WAITING:
            words.append(f"{task.name} waits for a worker")
        elif bar is not None and isinstance(bar.data, int | float) and bar.data < 100:
            left = (bar.description or "").rpartition(", ")[2]
            words.append(f"{task.name} {bar.data:.0f} %, {left}")
        else:
            words.append(task.name)
    return words
