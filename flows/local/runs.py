"""What runs, for `cspipe status`: a line for each pipeline, sweep, study and night, with its stages and their progress.

Stages on workers are flow runs of their own, which say in their parameters whose they are (flows/stage_run.py); bars
are progress artifacts, of the flow run that shows them (flows/artifacts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType, TaskRun
from prefect.client.schemas.sorting import ArtifactSort

from flows.artifacts import key

WIDTH = 100
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
UNFINISHED = (StateType.RUNNING, StateType.SCHEDULED, StateType.PENDING)
WAITING = (StateType.SCHEDULED, StateType.PENDING)
STAGE, PIPELINE = "run-stage", "pipeline"


def lines(client: SyncPrefectClient) -> list[str]:
    """The runs that have not ended and are not for later, the oldest first: name, state, stages with percent and time.

    At most 100 characters each. Raises what the client raises.
    """
    due = FlowRunFilterExpectedStartTime(before_=datetime.now(UTC))
    unfinished = FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=unfinished, expected_start_time=due))
    if not found:
        return []
    named = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=list({run.flow_id for run in found}))))
    flows = {flow.id: flow.name for flow in named}
    stages = [run for run in found if flows[run.flow_id] == STAGE]
    bars = _bars(client, [run.id for run in found])
    mine = sorted((run for run in found if run not in stages), key=lambda run: str(run.created))
    return [
        f"{_name(run, flows[run.flow_id]):32.32} {run.state_name or '':13.13} "
        f"{'; '.join(_stages(_tasks(client, run), run, stages, bars))}"[:WIDTH].rstrip()
        for run in mine
    ]


def _name(run: FlowRun, flow: str) -> str:
    """A pipeline is named after its preset once it runs; the others say what they are."""
    kind = str(run.parameters.get("preset", "")) if flow == PIPELINE else flow
    return run.name if run.name.startswith(f"{kind}-") else f"{kind} {run.name}"


def _tasks(client: SyncPrefectClient, run: FlowRun) -> list[TaskRun]:
    """The tasks of a run that have not ended, by the newest attempt: one that was killed leaves its own as running."""
    of = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    newest = {task.name: task for task in sorted(client.read_task_runs(flow_run_filter=of), key=_created)}
    return [task for task in newest.values() if task.state_type in UNFINISHED]


def _created(task: TaskRun) -> str:
    return str(task.created)


def _bars(client: SyncPrefectClient, runs: Sequence[UUID]) -> dict[tuple[UUID, str], Artifact]:
    """The newest bar of each run and stage."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=list(runs)), type=ArtifactFilterType(any_=["progress"])
    )
    found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.UPDATED_DESC)
    return {(bar.flow_run_id, bar.key): bar for bar in reversed(found) if bar.flow_run_id and bar.key}


def _stages(
    tasks: Sequence[TaskRun], run: FlowRun, stages: Sequence[FlowRun], bars: dict[tuple[UUID, str], Artifact]
) -> list[str]:
    """The stages of a run that are at work, each in a few words."""
    sent = {one.parameters["node"]["name"]: one for one in stages if one.parameters["driver"] == str(run.id)}
    stand_ins = {one.parent_task_run_id for one in stages}  # Prefect's, for a flow run that a task has queued
    told = []
    for task in tasks:
        if task.id in stand_ins:
            continue
        elsewhere = sent.get(task.name)
        bar = bars.get((run.id if elsewhere is None else elsewhere.id, key("progress", task.name)))
        if task.state_type is StateType.SCHEDULED:
            told.append(f"{task.name} is tried again soon")
        elif task.state_type is StateType.PENDING and elsewhere is None:
            continue  # it waits for those upstream
        elif elsewhere is not None and elsewhere.state_type in WAITING:
            told.append(f"{task.name} waits for a worker")
        elif bar is not None and isinstance(bar.data, int | float) and bar.data < 100:
            left = (bar.description or "").rpartition(", ")[2]
            told.append(f"{task.name} {bar.data:.0f} %, {left}")
        else:
            told.append(task.name)
    return told
