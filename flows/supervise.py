"""The supervisor of flow runs whose worker may be lost: `python -m flows.supervise`, a part of the stack.

It marks a run without a heartbeat for a window of time as CRASHED. It schedules a crashed training, sweep or study
again, up to ATTEMPTS times, and whenever `cspipe down` stopped it. It warns of a nightly re-evaluation that did not
run. All that it needs to know is on the server, so it can be restarted.

Prefect's documented automation for zombie runs marks lost runs as well, but counts the time in which the server itself
was away: after an outage as long as its window it crashes healthy runs. It also never sees a run that gave no
heartbeat, or one that stays pending. Prefect's server itself ends a cancelled run whose worker is lost, after five
minutes.
"""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import httpx
import typer
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.events.filters import EventFilter
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Crashed

from cspipe.runtime.errors import UserError
from flows.local.stopping import STOPPED

TAG = "cspipe"
"""Tag of all deployments of prefect.yaml."""
ATTEMPTS = 3
"""Largest number of times that a training, sweep or study is scheduled again after a crash."""
AGAIN = "scheduled again after a crash"
"""Start of the message of a state that schedules a run again; such states are counted against ATTEMPTS."""
MEMORY = timedelta(days=1)
"""Age above which a crash is ignored: a run that was given up last week is not scheduled again."""
PENDING = 600.0
"""Seconds after which a pending run, taken by a worker but not started, is lost; a cluster may fetch an image first."""
NIGHTLY, MISSED = "nightly-reevaluation", "nightly-missed"
NIGHTS = ["Completed", "Drifted", "Running"]
"""Names of states of a re-evaluation that ran or runs; one that was skipped, failed or crashed has checked nothing."""
DRIVERS = {"like_": "train-"}, {"any_": ["sweep", "study"]}
"""Filters of names: the deployments whose runs are scheduled again."""

Filter = dict[str, Any]

log = logging.getLogger("cspipe.supervise")


@dataclass
class Watch:
    """The supervisor: its time limits, and when it has seen the server."""

    window: float
    """Seconds without a heartbeat after which a run counts as lost."""
    nightly: timedelta = timedelta(hours=26)
    """Time without a run after which the nightly re-evaluation counts as missed."""
    seeing: datetime | None = None
    """When the server began to answer without a gap; no run is marked as lost before a window has passed since then."""
    last: datetime | None = None
    """When the last complete round began."""

    def look(self, client: SyncPrefectClient, now: datetime | None = None) -> None:
        """Do one round of all checks. Raises what the client raises if the server does not answer."""
        now = now or datetime.now(UTC)
        if self.seeing is None or self.last is None or (now - self.last).total_seconds() > self.window / 2:
            self.seeing = now  # started, or the server or this machine was away
        if (now - self.seeing).total_seconds() >= self.window:
            for state, window in (("RUNNING", self.window), ("PENDING", max(self.window, PENDING))):
                for run in _runs(client, {}, {"state": {"type": {"any_": [state]}}}):
                    _mark_if_lost(client, run, now, window)
        recent: Filter = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": now - MEMORY}}
        stopped: Filter = {"state": {"name": {"any_": [STOPPED]}}}
        for name, ended in product(DRIVERS, (recent, stopped)):
            for run in _runs(client, {"name": name}, ended):
                if run.parent_task_run_id is None:  # a point of a sweep belongs to its sweep
                    _schedule_again(client, run)
        _warn_of_missed(client, now, self.nightly)
        self.last = now


def _mark_if_lost(client: SyncPrefectClient, run: FlowRun, now: datetime, window: float) -> None:
    """Mark a run CRASHED if neither the start of this attempt nor a heartbeat is newer than the window."""
    started = run.state.timestamp if run.state else run.start_time
    signs = [time for time in (started, _heartbeat(client, run)) if time is not None]
    silent = (now - max(signs)).total_seconds() if signs else window
    if silent >= window:
        _set(client, run, Crashed(message=f"worker lost: no heartbeat for {silent:.0f} s"))


def watch(window: float = 120.0, every: float = 30.0) -> None:
    """Supervise the flow runs of this project until the process is ended.

    window: seconds without a heartbeat after which a run is lost. every: seconds between two rounds. Raises UserError
    if the window is shorter than three intervals between heartbeats.
    """
    beat = get_current_settings().flows.heartbeat_frequency or 0
    if window < 3 * beat or not beat:
        raise UserError(
            f"--window {window:.0f} s: runs give a sign of life every {beat} s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY), "
            f"and with less than three times that healthy ones would be ended; take {3 * beat} or more"
        )
    view = Watch(window)
    while True:
        try:
            with get_client(sync_client=True) as client:
                view.look(client)
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("the server gives no answer: %s", error or type(error).__name__)
            view.seeing = None
        time.sleep(every)


def _runs(client: SyncPrefectClient, of: Filter, runs: Filter) -> list[FlowRun]:
    """Return the flow runs of this project's deployments that match Prefect's filters `of` and `runs`."""
    return client.read_flow_runs(deployment_filter=_ours(of), flow_run_filter=FlowRunFilter.model_validate(runs))


def _ours(more: Filter) -> DeploymentFilter:
    return DeploymentFilter.model_validate({"tags": {"all_": [TAG]}} | more)


def _heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """Return when the server received the run's newest heartbeat, by its own clock: the worker's may be wrong."""
    now = datetime.now(UTC)
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        "occurred": {"since": now - timedelta(days=2), "until": now + timedelta(days=2)},
        "order": "DESC",
    }
    events = client.read_events(EventFilter.model_validate(wanted), limit=1).events
    return events[0].received if events else None


def _schedule_again(client: SyncPrefectClient, run: FlowRun) -> None:
    """Schedule a run again, unless it was cancelled or crashed too often; one that `cspipe down` stopped goes on."""
    states = client.read_flow_run_states(run.id)
    again = sum((state.message or "").startswith(AGAIN) for state in states)
    cause = run.state.message if run.state else "unknown"
    stopped = run.state_name == STOPPED
    if any(state.type in (StateType.CANCELLING, StateType.CANCELLED) for state in states):
        return
    if stopped or again < ATTEMPTS:
        message = f"going on: {cause}" if stopped else f"{AGAIN}, {again + 1} of {ATTEMPTS}: {cause}"
        _set(client, run, AwaitingRetry(message=message))


def _set(client: SyncPrefectClient, run: FlowRun, state: State) -> None:
    """Propose a new state for a run, without force: a run that has just ended keeps its state."""
    if client.set_flow_run_state(run.id, state).status == SetStateStatus.ACCEPT:
        log.warning("%s: %s: %s", run.name, state.name, state.message)


def _warn_of_missed(client: SyncPrefectClient, now: datetime, limit: timedelta) -> None:
    """Log a warning and create an artifact, once per `limit`, if a scheduled nightly re-evaluation did not run well."""
    name = {"name": {"any_": [NIGHTLY]}}
    ran = {"start_time": {"after_": now - limit}, "state": {"name": {"any_": NIGHTS}}}
    for deployment in client.read_deployments(deployment_filter=_ours(name)):
        since = [schedule.created for schedule in deployment.schedules if schedule.active and schedule.created]
        if deployment.paused or not since or now - min(since) < limit:
            continue
        if _runs(client, name, ran) or _warned(client, now - limit):
            continue
        text = (
            f"{NIGHTLY} has not run for {limit.total_seconds() / 3600:.0f} h although its schedule is active; "
            "is a cpu worker online, is the run waiting in the queue, did the last one fail?"
        )
        log.warning(text)
        client.create_artifact(ArtifactCreate(key=MISSED, type="markdown", description="Nightly missed", data=text))


def _warned(client: SyncPrefectClient, after: datetime) -> bool:
    known = client.read_artifacts(artifact_filter=ArtifactFilter.model_validate({"key": {"any_": [MISSED]}}))
    return any(artifact.created is not None and artifact.created > after for artifact in known)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    try:
        typer.run(watch)
    except UserError as error:
        sys.exit(f"cspipe: {error}")
