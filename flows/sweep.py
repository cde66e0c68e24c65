"""The flow `sweep`: one pipeline run per point of a grid of parameters, and a table of how the points ended."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.futures import wait
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from cspipe.runtime.errors import UserError
from flows.dispatch import wait as wait_for_run
from flows.failures import StageFailed
from flows.local.stopping import STOPPED
from flows.pipeline import DRIVER_POOL, pipeline
from flows.revision import run_commit
from flows.watch import one_line
from flows.workspace import home

POINT = "pipeline/train-demo"
"""Deployment that runs a point; the sweep's preset replaces its own."""
ATTEMPTS = 3
"""Largest number of starts of a point whose worker is lost; stops by `cspipe down` are not counted."""


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the grid's values, as overrides. Raises UserError for a grid without values."""
    lists = isinstance(grid, Mapping) and all(isinstance(values, list) and values for values in grid.values())
    if not lists or not grid:
        raise UserError('grid: give each key a list of values, as {"train.compensation.scale": [0.1, 0.3]}')
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def point_name(point: Mapping[str, Any]) -> str:
    """Return a point in one line, with braces doubled, as Prefect takes a task run's name for a format string."""
    return ", ".join(f"{key}={value}" for key, value in point.items()).replace("{", "{{").replace("}", "}}")


@task(cache_policy=NO_CACHE, persist_result=False)
def point_task(parameters: dict[str, Any]) -> str:
    """Run the pipeline for one point, on a worker if the sweep has a deployment. Returns the message of its end."""
    state: State[Any] = pipeline(**parameters, return_state=True) if deployment.id is None else on_a_worker(parameters)
    message = state.message or "no message"
    if not state.is_completed():
        raise StageFailed(message)
    return message


def on_a_worker(parameters: dict[str, Any]) -> State[Any]:
    """Run the pipeline of a point on a worker, again if that is lost, and return the state in which it ended.

    The run's idempotency key on the server is made of sweep, point and attempt: a sweep that is itself started again
    finds the runs that it had started.
    """
    point = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
    attempt = lost = 0
    while True:
        attempt += 1
        once = f"{flow_run.id}-{point}-{attempt}"
        sent: FlowRun = run_deployment(POINT, parameters=parameters, timeout=0, idempotency_key=once)  # type: ignore[assignment]
        ended = wait_for_run(sent.id, sent.name, DRIVER_POOL, get_run_logger().info)
        assert ended.state is not None
        lost += ended.state.name != STOPPED  # a stop by `cspipe down` is not counted
        if not ended.state.is_crashed() or lost == ATTEMPTS:
            return ended.state


@flow(name="sweep", task_runner=ThreadPoolTaskRunner(max_workers=3), persist_result=False)  # type: ignore[arg-type]
def sweep(
    grid: dict[str, list[Any]],
    preset: str = "demo",
    revision: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> State[Any]:
    """Run the pipeline at every point of `grid`, at most three at a time; a point that fails does not stop the others.

    Each point ends as a DVC experiment. Raises StageFailed at the end if any point failed.
    """
    chosen, futures = points(grid), []
    commit = run_commit(home(), revision, pushed=False)  # once, so that all points have the same code
    for point in chosen:
        named = point_task.with_options(task_run_name=point_name(point))
        parameters = {"preset": preset, "revision": commit, "overrides": {**(overrides or {}), **point}}
        futures.append(named.submit(parameters))
    wait(futures)
    rows = [{**point, "ended": one_line(future.state.message)} for point, future in zip(chosen, futures, strict=True)]
    create_table_artifact(rows, key="sweep", description=f"{len(rows)} points of {preset}")
    failed = sum(not future.state.is_completed() for future in futures)
    if failed:
        raise StageFailed(f"{failed} of {len(futures)} points failed; the table `sweep` says why")
    get_run_logger().info("all points done; `cspipe experiments` compares them")
    return Completed(message=f"{len(futures)} points done")
