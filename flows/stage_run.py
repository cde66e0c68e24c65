"""The flow `run-stage`: a worker runs one stage for a driver (flows/pipeline.py) in another process or machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage_errors import StorageError
from flows.artifacts import StageProgress, show_samples
from flows.command import Step
from flows.dispatch import has_ended
from flows.dvc_stage import Outcome, StageRunner
from flows.failures import StageFailed, Transient
from flows.graph import Node, read_graph
from flows.handover import LOCK, Place, check_entry, hand_over, lock_entries
from flows.revision import check_code, resolve_revision
from flows.workspace import home, open_workspace, shared_bucket


@flow(name="run-stage", persist_result=False)
def run_stage(run: str, driver: UUID, node: Node, revision: str, params: str, lock: str) -> State[None]:
    """Run one stage of `run` at an exact revision, with the driver's params.yaml and dvc.lock, and hand it over.

    `driver`: id of the pipeline's flow run. When that no longer runs, the stage stops, keeps its state and ends as
    cancelled. Only S3 is read and written: worker and driver need not share a disk. A failed state is named after an
    End. Fails before any work if the clone cannot get the revision or has other flows, if S3 cannot be used, or if
    `node` is not exactly a stage of dvc.yaml at the revision: anybody with access to the server can send parameters.
    """
    with get_client(sync_client=True) as client:
        unwanted = partial(has_ended, client, driver)
        try:
            outcome = work(run, node, revision, params, lock, unwanted)
        except (UserError, StageFailed, Transient) as error:
            if not isinstance(error, UserError) and unwanted():
                return Cancelled(message=f"{run} no longer runs; the stage's state is kept")
            return Failed(name=error.end.name, message=str(error))
    return Completed(message=f"{node.name}: {outcome.how} ({outcome.seconds:.0f} s)")


def work(run: str, node: Node, revision: str, params: str, lock: str, unwanted: Callable[[], bool]) -> Outcome:
    """Run the stage in a workspace, show its progress, and put its result into the bucket for the driver."""
    log, clone = get_run_logger(), home()
    bucket = shared_bucket(log.warning, unwanted=unwanted)
    if bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; set it to the bucket of the run, s3://bucket/prefix")
    commit = resolve_revision(clone, revision, pushed=False)
    check_code(clone, commit)
    place, shown = Place(bucket, run, node.name), StageProgress(node.name)

    def progress(step: Step) -> None:
        """Show a step, and write it to the bucket, where the driver finds it if this worker is lost."""
        shown(step)
        with suppress(StorageError):  # only a retry and the driver's progress bar read it
            bucket.put_json(place.progress, asdict(step))

    with open_workspace(clone, commit, f"{run}-{node.name}", bucket) as workspace:
        write_inputs(workspace.root, node, params, lock)
        outcome = StageRunner(workspace, run, log.info, progress, unwanted, log.warning)(node)
        hand_over(place, workspace.root, node, outcome.how, outcome.seconds)
        shown.end()
        show_samples(workspace.root, node.name, run)
    return outcome


def write_inputs(root: Path, node: Node, params: str, lock: str) -> None:
    """Write params.yaml and dvc.lock into a workspace.

    Raises UserError if the workspace then has no stage equal to `node`, or dvc.lock has an invalid entry.
    """
    (root / "params.yaml").write_text(params)
    if lock:
        (root / LOCK).write_text(lock)
    if node not in read_graph(root):
        raise UserError(f"{node.name}: as it was sent, no stage of dvc.yaml and params.yaml; start the run again")
    for stage, entry in lock_entries(root).items():
        check_entry(entry, f"{LOCK}, as it was sent, {stage}")
