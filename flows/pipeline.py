"""The flow `pipeline`: dvc.yaml's stages as tasks, run here or on workers of their pools; saves a DVC experiment.

`python -m flows.pipeline --preset demo` runs it in this process; `prefect deployment run train-demo` on a worker.

What happens, in order (files of flows/):

1. Driver, a flow run of `pipeline`: find the commit (revision.py), open a git worktree of it (workspace.py), write
   params.yaml (settings.py), read the stages (graph.py), restore results that exist already (known_results.py).
2. One task run per stage, `stage_task`, when its upstream stages are done. Restored stages end at once. Stages of the
   pool cpu, and all stages of a run without a deployment, run in the driver's worktree: step 4.
3. Other stages: the driver queues a flow run of `run_stage` (dispatch.py); a worker of the stage's pool runs it
   (stage_run.py) in a worktree of its own, with the driver's params.yaml and dvc.lock.
4. In the worktree (dvc_stage.py): `dvc pull` of the inputs, `dvc repro` of this one stage, `dvc push` of the results,
   in one process (dvc_steps.py, command.py). Without a bucket only `dvc repro`.
5. Hand-over (handover.py): the worker writes the stage's entry of dvc.lock and its small files to the bucket; the
   driver merges them into its worktree. A failed attempt is retried if its cause may pass (failures.py).
6. Driver: `dvc repro --dry` has nothing left; save the experiment (experiment.py), show the scores (artifacts.py).
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import Any
from uuid import UUID

import yaml
from prefect import flow, get_run_logger, settings, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.runtime import deployment, flow_run, task_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from cspipe.cli.explain import explain
from cspipe.runtime.errors import UserError
from cspipe.runtime.storage import Bucket
from cspipe.runtime.wording import printable
from flows.artifacts import StageProgress, show_plan, show_report, show_samples, show_scores
from flows.dispatch import begin_on_worker, finish_on_worker, queue_after
from flows.dvc_stage import Outcome, StageRunner
from flows.experiment import save_experiment, scores_now, scores_recorded, verify
from flows.failures import DELAYS, worth_another_attempt
from flows.graph import Node, read_graph
from flows.handover import Place
from flows.known_results import restore_known
from flows.local.workers import visible_gpus
from flows.raw_data import check_data, link_raw_files
from flows.revision import check_code, find_commit, first_commit, run_commit
from flows.settings import write_params
from flows.workspace import Workspace, home, open_workspace, shared_bucket

DRIVER_POOL = "cpu"
"""Pool of the driver, the flow run of `pipeline`. Stages of this pool run in the driver's workspace."""
THREADS = 16
"""Largest number of stages that run, or wait for a worker, at the same time."""


@dataclass(frozen=True)
class Run:
    """One run of the pipeline: what the tasks of its stages share."""

    name: str
    workspace: Workspace
    shared: Bucket | None
    """Bucket through which workers of other pools hand over their results; None if all stages run in the driver."""
    slots: dict[str, Semaphore]
    """Limit of stages that the driver runs at once, by pool: for gpu one per visible GPU (at least 1), else 1."""
    known: dict[str, Outcome]
    """By name, outcomes of the stages whose results existed before any stage was started."""

    def place(self, node: Node) -> Place | None:
        """Return where a worker hands the stage over; None if the driver runs it, or its results existed before."""
        if self.shared is None or node.pool == DRIVER_POOL or node.name in self.known:
            return None
        return Place(self.shared, self.name, node.name)


def run_name() -> str:
    """Return the run's name in Prefect and as a DVC experiment: preset, revision, start of the flow run's id."""
    parameters = flow_run.parameters
    revision = str(parameters.get("revision") or "HEAD")[:12]
    with suppress(UserError):  # no clone, or no such revision yet: the flow itself says so
        if commit := first_commit() or find_commit(home(), parameters.get("revision")):
            revision = commit[:7]
    name = f"{parameters.get('preset', 'demo')}-{revision}-{str(flow_run.id)[:6]}"
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)


@flow(
    name="pipeline",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=THREADS),  # type: ignore[arg-type]
    persist_result=False,
)
def pipeline(preset: str = "demo", revision: str | None = None, overrides: dict[str, Any] | None = None) -> State[str]:
    """Run every stage of dvc.yaml at a revision, with a preset's parameters and overrides like {"train.images": 1000}.

    Returns the name of the DVC experiment that holds the result. Raises UserError before anything is queued if the
    revision, the parameters, the bucket or this clone's code cannot be used.
    """
    log = get_run_logger().info
    clone, dispatch = home(), deployment.id is not None
    one_clone = "CSPIPE_ONE_CLONE" in os.environ  # `cspipe up`: all workers work in this clone
    bucket = shared_bucket(get_run_logger().warning)
    if dispatch and bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; workers share results through s3://bucket/prefix")
    commit = run_commit(clone, revision, pushed=dispatch and not one_clone)
    check_code(clone, commit)
    if (name := run_name()) != flow_run.name:  # a branch has moved
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(UUID(flow_run.id), name)
    with open_workspace(clone, commit, name, bucket) as workspace:
        params = write_params(workspace.root, preset, overrides or {})
        for path in link_raw_files(clone, workspace.root):
            if path.suffix != ".dvc":
                log(f"{path}: this clone's own; for runs elsewhere `dvc add {path}`, commit {path}.dvc, `dvc push`")
        check_data(workspace.root, params.data)
        nodes = read_graph(workspace.root)
        slots = {node.pool: Semaphore(max(1, len(visible_gpus())) if node.pool == "gpu" else 1) for node in nodes}
        known = restore_known(workspace, nodes, log)
        show_what_runs(workspace.root, name, log)
        outcomes = run_stages(Run(name, workspace, bucket if dispatch else None, slots, known), nodes)
        verify(workspace)
        save_experiment(workspace, name, log)
        show_scores(scores_now(workspace.root), scores_recorded(workspace), name)
        show_report(workspace, name)
    counts = Counter(outcome.how for outcome in outcomes)
    return Completed(message=f"{name}: " + ", ".join(f"{count} {how}" for how, count in counts.items()), data=name)


def show_what_runs(root: Path, run: str, log: Callable[[str], None]) -> None:
    """Log which stages will run and why, and show it as an artifact."""
    plan = [printable(str(each)) for each in explain(root)]
    for line in plan:
        log(line)
    show_plan(plan, run)


def run_stages(run: Run, nodes: list[Node]) -> list[Outcome]:
    """Run every stage as a task, started when its upstream stages are done. Raises the first failed stage's error."""
    futures: dict[str, PrefectFuture[Any]] = {}
    tell = get_run_logger().info
    threads = ThreadPoolExecutor(THREADS)
    for node in nodes:
        named = stage_task.with_options(
            name=node.name,
            task_run_name=node.name,
            retry_delay_seconds=DELAYS,
            retries=len(DELAYS),
            retry_condition_fn=worth_another_attempt(),
        )
        upstream, place, queued = [futures[name] for name in node.upstream], run.place(node), None
        if upstream and place is not None:
            queued = queue_after(threads, upstream, partial(begin_on_worker, node, run.workspace, place, tell))
        futures[node.name] = named.submit(node, run, queued, wait_for=upstream, return_state=False)
    threads.shutdown(wait=False)  # takes no more; a signal must not wait for these threads
    wait(list(futures.values()))
    for future in futures.values():
        if future.state.is_failed() or future.state.is_crashed():
            future.result()  # raises; stages that read from it were not started and have no result
    return [future.result() for future in futures.values()]


@task(cache_policy=NO_CACHE, persist_result=False)
def stage_task(node: Node, run: Run, queued: UUID | Exception | None) -> State[Outcome]:
    """Run one stage: here, or on a worker of its pool. The task's state is Cached if nothing had to run.

    `queued`: id of the first attempt's flow run, which a worker has begun, or the error for which there is none.
    """
    log, place = get_run_logger().info, run.place(node)
    if node.name in run.known:
        outcome = run.known[node.name]
        show_samples(run.workspace.root, node.name, run.name)
    elif place is None:
        outcome = run_here(node, run, log)
    else:
        if queued is None or task_run.run_count > 1:
            queued = begin_on_worker(node, run.workspace, place, log)
        if isinstance(queued, Exception):
            raise queued
        outcome = finish_on_worker(queued, node, run.workspace, place, log)
    message = f"{node.name}: {outcome.how} ({outcome.seconds:.0f} s)"
    log(message)
    return Completed(name="Completed" if outcome.how == "ran" else "Cached", message=message, data=outcome)


def run_here(node: Node, run: Run, log: Callable[[str], None]) -> Outcome:
    """Run a stage in the driver's workspace, once its pool has a free slot."""
    shown = StageProgress(node.name)
    with run.slots[node.pool]:
        outcome = StageRunner(run.workspace, run.name, log, shown, warn=get_run_logger().warning)(node)
    shown.end()
    show_samples(run.workspace.root, node.name, run.name)
    return outcome


def main() -> None:
    """Run the pipeline in this process, with a server of its own that lives as long as the run."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=main.__doc__)
    parser.add_argument("--preset", default="demo", help="a preset of the revision (`cspipe params list`)")
    parser.add_argument("--revision", help="commit, tag or branch; HEAD if not given")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, as train.images=1000"
    )
    arguments = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in arguments.set)}
    password = f"cspipe:{secrets.token_hex(16)}"  # others on this machine reach its port too
    own = {
        settings.PREFECT_API_URL: None, settings.PREFECT_API_AUTH_STRING: password,
        settings.PREFECT_SERVER_API_AUTH_STRING: password, settings.PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        settings.PREFECT_SERVER_ANALYTICS_ENABLED: False,
        settings.PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
    }  # fmt: skip
    with settings.temporary_settings(own):
        state = pipeline(arguments.preset, arguments.revision, overrides, return_state=True)
    print(state.message)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    main()
