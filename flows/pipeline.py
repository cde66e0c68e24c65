"""The pipeline flow: dvc.yaml's stages as tasks, here or on the workers of their pools, ending in a DVC experiment.

`python -m flows.pipeline --preset demo` runs it in this process; `prefect deployment run train-demo` on a worker.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, flow_run, task_run
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from cspipe.cli.explain import explain
from cspipe.runtime.errors import UserError
from flows.artifacts import (
    CurvesLink,
    ProgressElsewhere,
    StageProgress,
    show_plan,
    show_report,
    show_samples,
    show_scores,
)
from flows.dispatch import begun, conclude, send, wait
from flows.dvc_stage import Outcome, StageRunner
from flows.experiment import save_experiment, scores_now, scores_recorded, verify
from flows.failures import DELAYS, StageFailed, worth_another_attempt
from flows.graph import Node, read_graph
from flows.handover import Place
from flows.known_results import settle
from flows.local.workers import visible_gpus
from flows.queued import Queued, QueuedStage
from flows.raw_data import check_data, link_own_files
from flows.settings import write_params
from flows.workspace import Workspace, check_code, git, home, open_workspace, resolve_revision, shared_bucket

DRIVER_POOL = "cpu"
"""Pool of the pipeline itself: its stages run in the driver's workspace."""


@dataclass
class Slots:
    """How many stages of each pool run at once in this process: one per GPU, or one for all without any."""

    gpus: int = field(default_factory=lambda: max(1, len(visible_gpus())))
    _free: dict[str, threading.Semaphore] = field(init=False)

    def __post_init__(self) -> None:
        self._free = {"gpu": threading.Semaphore(self.gpus)}

    def of(self, pool: str) -> threading.Semaphore:
        """The slots of a pool; pools other than gpu have one."""
        return self._free.setdefault(pool, threading.Semaphore(1))


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    name: str
    workspace: Workspace
    dispatch: bool
    """Whether stages of other pools go to their workers."""
    slots: Slots
    known: dict[str, Outcome]
    """How stages were settled before any was started."""

    def elsewhere(self, node: Node) -> bool:
        """Whether a worker of another pool does a stage."""
        return self.dispatch and node.pool != DRIVER_POOL and node.name not in self.known


def run_name() -> str:
    """Preset, revision and the start of the flow run's id: the run's name in Prefect and as a DVC experiment."""
    given = flow_run.parameters
    try:
        revision = git(home(), "rev-parse", "--short=7", given.get("revision") or "HEAD")
    except UserError:  # not fetched yet, or wrong: the flow itself says so
        revision = str(given.get("revision"))[:12].replace("/", "-")
    return f"{given.get('preset', 'demo')}-{revision}-{str(flow_run.id)[:6]}"


@flow(
    name="pipeline",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=16),  # type: ignore[arg-type]
    persist_result=False,
)
def pipeline(preset: str = "demo", revision: str | None = None, overrides: dict[str, Any] | None = None) -> State[str]:
    """Run every stage of dvc.yaml at a revision, with a preset's parameters and overrides like {"train.images": 1000}.

    Returns the name of the DVC experiment that holds the result. Raises UserError before anything is queued if the
    revision, the parameters, the bucket or this clone's code cannot be used.
    """
    log = get_run_logger().info
    clone, dispatch, name = home(), deployment.id is not None, run_name()
    one_clone = "CSPIPE_ONE_CLONE" in os.environ  # `cspipe up`: all workers work in this clone
    bucket = shared_bucket(get_run_logger().warning)
    if dispatch and bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; workers share results through s3://bucket/prefix")
    commit = resolve_revision(clone, revision, pushed=dispatch and not one_clone)
    check_code(clone, commit)
    with open_workspace(clone, commit, name, bucket) as workspace:
        params = write_params(workspace.root, preset, overrides or {})
        own = link_own_files(clone, workspace.root)
        check_data(workspace.root, params.data, one_clone=one_clone)
        tell_own_files(own, log)
        nodes = read_graph(workspace.root)
        run = Run(name, workspace, dispatch, Slots(), settle(workspace, nodes, log))
        tell_plan(workspace.root, name, log)
        outcomes = run_stages(run, nodes)
        verify(workspace)
        save_experiment(workspace, name, log)
        show_scores(scores_now(workspace.root), scores_recorded(workspace), name)
        show_report(workspace, name)
    counts = Counter(outcome.how for outcome in outcomes)
    return Completed(message=f"{name}: " + ", ".join(f"{count} {how}" for how, count in counts.items()), data=name)


def tell_own_files(own: Sequence[Path], log: Callable[[str], None]) -> None:
    """Whose data a run uses that no revision names."""
    for path in own:
        log(f"{path}: this clone's own; for runs elsewhere `dvc add {path}`, commit {path}.dvc, `dvc push`")


def tell_plan(root: Path, run: str, log: Callable[[str], None]) -> None:
    """What will run and why, before it does."""
    plan = [str(each) for each in explain(root)]
    for line in plan:
        log(line)
    show_plan("\n".join(f"- {line}" for line in plan), run)


def run_stages(run: Run, nodes: list[Node]) -> list[Outcome]:
    """Every stage as a task that starts when those it reads from are done. Raises for the first that failed."""
    futures: dict[str, PrefectFuture[Any]] = {}
    for node in nodes:
        named = stage_task.with_options(
            name=node.name,
            task_run_name=node.name,
            retry_delay_seconds=DELAYS,
            retries=len(DELAYS),
            retry_condition_fn=worth_another_attempt(),
        )
        upstream = [futures[name] for name in node.upstream]
        queued = QueuedStage(upstream, partial(queue, node, run, 1)) if upstream and run.elsewhere(node) else None
        futures[node.name] = named.submit(node, run, queued, wait_for=upstream, return_state=False)
    ended = {name: future.wait() or future.state for name, future in futures.items()}
    failed = [name for name, state in ended.items() if state.is_failed() or state.is_crashed()]
    if failed:
        raise StageFailed(first_reason([ended[name] for name in failed]))
    return [future.result() for future in futures.values()]


def first_reason(states: list[State[Any]]) -> str:
    """Why the first of the failed stages failed."""
    for state in states:
        try:
            state.result()
        except Exception as error:
            return str(error)
    return "a stage failed"


@task(cache_policy=NO_CACHE, persist_result=False)
def stage_task(node: Node, run: Run, queued: Queued | None) -> State[Outcome]:
    """One stage, as DVC names it: here, or on a worker of its pool. Its state is Cached if nothing had to run.

    `queued`: its first attempt on a worker, which has begun.
    """
    log = get_run_logger().info
    attempt = task_run.run_count or 1
    if node.name in run.known:
        outcome = run.known[node.name]
        show_samples(run.workspace.root, node.name, run.name)
    elif not run.elsewhere(node):
        outcome = run_here(node, run, log)
    elif attempt > 1 or queued is None:
        outcome = on_worker(node, run, queue(node, run, attempt).id)
    elif queued.error is not None:
        raise queued.error
    else:
        assert queued.run is not None
        outcome = on_worker(node, run, queued.run)
    told = f"{node.name}: {outcome.how} ({outcome.seconds:.0f} s)"
    log(told)
    return Completed(name="Completed" if outcome.how == "ran" else "Cached", message=told, data=outcome)


def queue(node: Node, run: Run, attempt: int) -> FlowRun:
    """Queue a stage for a worker of its pool; the flow run once a worker has begun."""
    sent = send(node, run.workspace, run.name, attempt)
    return wait(sent.id, node.name, node.pool, get_run_logger().info, until=begun, driver=UUID(flow_run.id))


def on_worker(node: Node, run: Run, queued: UUID) -> Outcome:
    """The result of a stage that a worker has begun, taken over here."""
    assert run.workspace.bucket is not None
    place = Place(run.workspace.bucket, run.name, node.name)
    shown = ProgressElsewhere(node.name, place.bucket, place.progress)
    ended = wait(queued, node.name, node.pool, get_run_logger().info, meanwhile=shown.look)
    outcome = conclude(ended, place, run.workspace, node)
    shown.end()
    return outcome


def run_here(node: Node, run: Run, log: Callable[[str], None]) -> Outcome:
    """A stage in the driver's workspace, in a free slot of its pool."""
    shown = StageProgress(node.name)
    with run.slots.of(node.pool):
        tell, warn = CurvesLink(node.name, log), get_run_logger().warning
        outcome = StageRunner(run.workspace, run.name, tell, shown, warn=warn)(node)
    shown.end()
    show_samples(run.workspace.root, node.name, run.name)
    return outcome


def server_answers() -> bool:
    """Whether the Prefect server of the settings is there."""
    url = PREFECT_API_URL.value()
    try:
        return bool(url) and httpx.get(f"{url}/health", timeout=3).is_success
    except httpx.HTTPError:
        return False


def main() -> None:
    """Run the pipeline in this process, told to the server of the settings, or to one that lives as long as the run."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=main.__doc__)
    parser.add_argument("--preset", default="demo", help="a preset of the revision (`cspipe params list`)")
    parser.add_argument("--revision", help="commit, tag or branch; HEAD if not given")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, as train.images=1000"
    )
    given = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in given.set)}
    alone = {
        PREFECT_API_URL: None,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
    }
    with temporary_settings({} if server_answers() else alone):
        state = pipeline(given.preset, given.revision, overrides, return_state=True)
    print(state.message)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    main()
