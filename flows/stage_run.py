"""The flow that a worker runs for one stage of a pipeline whose driver is elsewhere."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from uuid import UUID

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed

from cspipe.runtime.errors import UserError
from cspipe.runtime.storage_errors import StorageError
from flows.artifacts import StageProgress, show_samples
from flows.command import Step
from flows.dvc_stage import StageRunner
from flows.failures import StageFailed, Transient
from flows.graph import Node
from flows.handover import LOCK, Place, hand_over
from flows.workspace import check_code, home, open_workspace, resolve_revision, shared_bucket


@flow(name="run-stage", persist_result=False)
def run_stage(run: str, driver: UUID, node: Node, revision: str, params: str, lock: str) -> State[None]:
    """Run one stage of `run` at an exact revision, with the driver's params.yaml and dvc.lock, and hand it over.

    `driver` is the pipeline's flow run: when it no longer runs, the stage stops, its state kept, and ends as cancelled.
    Reads and writes S3 alone: this worker and the driver need not share a disk. Raises UserError before any work if the
    clone cannot get the revision, has other flows, or S3 cannot be used; StageFailed or Transient afterwards.
    """
    clone, bucket = home(), shared_bucket(get_run_logger().warning)
    if bucket is None:
        raise UserError("CSPIPE_S3 is not set for this worker; set it to the bucket of the run, s3://bucket/prefix")
    commit = resolve_revision(clone, revision, pushed=False)
    check_code(clone, commit)
    place, stage = Place(bucket, run, node.name), node.name
    with open_workspace(clone, commit, f"{run}-{stage}", bucket) as workspace:
        (workspace.root / "params.yaml").write_text(params)
        if lock:
            (workspace.root / LOCK).write_text(lock)
        shown = StageProgress(stage)

        def progress(step: Step) -> None:
            """Show a step, and leave it where the driver finds it after a loss."""
            shown(step)
            with suppress(StorageError):  # only a retry would miss it
                bucket.put_json(place.progress, asdict(step))

        abandoned = Abandoned(driver)
        try:
            log = get_run_logger()
            outcome = StageRunner(workspace, run, log.info, progress, abandoned, log.warning)(node)
        except (StageFailed, Transient):
            if abandoned.found:
                return Cancelled(message=f"{run} no longer runs; the stage's state is kept")
            raise
        hand_over(place, workspace.root, node, outcome.how, outcome.seconds)
        shown.end()
        show_samples(workspace.root, stage, run)
    return Completed(message=f"{stage}: {outcome.how} ({outcome.seconds:.0f} s)")


class Abandoned:
    """Whether the driver of a stage was cancelled or lost: nobody waits for the stage any more."""

    def __init__(self, driver: UUID) -> None:
        self._driver, self.found = driver, False

    def __call__(self) -> bool:
        """Ask the server; one that does not answer decides nothing."""
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(self._driver).state
        except (httpx.HTTPError, OSError):
            return False
        self.found = state is None or not state.is_running()
        return self.found
