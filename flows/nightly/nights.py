"""What nights of re-evaluation leave in S3, and what the next ones learn from it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import deployment, flow_run

from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Lost
from flows.nightly.drift import BETTER

FOLDER = "reevaluation/"
MOST_NIGHTS = 60
"""How far back repeats are read."""
SEEDS_PER_SET = 10**9
Scores = dict[str, float | None]


def newer_run() -> FlowRun | None:
    """Another run of this deployment that was due after this one and by now, unless it was cancelled or failed."""
    scheduled = flow_run.scheduled_start_time
    if deployment.id is None or scheduled is None:
        return None
    alive = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=alive)),
        expected_start_time=FlowRunFilterExpectedStartTime(
            after_=scheduled + timedelta(seconds=1), before_=datetime.now(UTC)
        ),
    )
    with get_client(sync_client=True) as client:
        return next((run for run in client.read_flow_runs(flow_run_filter=due) if str(run.id) != flow_run.id), None)


def free_key(bucket: Bucket, day: date) -> tuple[str, int]:
    """Key of this run's record, and which run of the day it is: 1, 2, ..."""
    taken = set(bucket.list(f"{FOLDER}{day}"))
    number = 1
    while _key(day, number) in taken:
        number += 1
    return _key(day, number), number


def write(bucket: Bucket, day: date, record: dict[str, Any]) -> str:
    """Store a night; never over another. Returns its key."""
    while True:
        key, _ = free_key(bucket, day)
        try:
            bucket.put_json(key, record, if_absent=True)
            return key
        except Lost:
            continue


def fresh_seed(day: date, number: int, part: int) -> int:
    """First of the seeds of a set: no day, run of the day or part (0 to 9) shares one with another."""
    return ((day.toordinal() * 100 + number) * 10 + part) * SEEDS_PER_SET


def repeats(bucket: Bucket, commit: str, variant: str) -> list[Scores]:
    """Scores of fresh seeds that nights without drift have left, one per set of seeds, the oldest first."""
    found: dict[int, Scores] = {}
    for entry in _entries(bucket, commit):
        for finding in entry["variants"]:
            if finding["variant"] == variant:
                found |= {made["seed"]: made["scores"] for made in finding["repeats"]}
    return list(found.values())


def scores_of(metrics: dict[str, Any]) -> Scores:
    """The judged scores of a metrics file, whose first section is the extractor's; None where one is no number."""
    section = next(iter(metrics.values()))
    return {name: value if (value := section.get(name)) == value else None for name in BETTER}


def _entries(bucket: Bucket, commit: str) -> Iterator[dict[str, Any]]:
    for key in sorted(bucket.list(FOLDER))[-MOST_NIGHTS:]:
        found = bucket.get_json(key)
        if found is not None:
            yield from (entry for entry in found[0]["revisions"] if entry["revision"] == commit)


def _key(day: date, number: int) -> str:
    return f"{FOLDER}{day}.json" if number == 1 else f"{FOLDER}{day}-{number}.json"
