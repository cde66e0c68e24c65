"""Watch over flow runs whose worker may vanish: `python -m flows.supervise`, a part of the stack.

A run that gives no sign of life for a window of time is marked CRASHED; a crashed training, sweep or study is scheduled
again, a few times, and one that `cspipe down` has stopped each time; of a nightly re-evaluation that did not run it
warns. What it knows is on the server, so it can be restarted.

Prefect's documented automation for zombie runs marks lost runs as well, but counts the time in which the server itself
was away: after an outage of its window it crashes healthy runs. It also never sees a run that gave no heartbeat, or one
that stays pending. A cancelled run whose worker is lost is ended by Prefect's server, five minutes later.
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
"""On all deployments of prefect.yaml."""
ATTEMPTS = 3
"""How often a training, sweep or study is scheduled again after a crash."""
AGAIN = "scheduled again after a crash"
MEMORY = timedelta(days=1)
"""Crashes older than this are left alone: what was given up last week does not come back."""
PENDING = 600.0
"""Seconds after which a run that was taken but has not started is lost; a cluster may fetch an image meanwhile."""
NIGHTLY, MISSED = "nightly-reevaluation", "nightly-missed"
NIGHTS = ["Completed", "Drifted", "Running"]
"""States of a night that ran, or does; one that was skipped, failed or crashed has found out nothing."""
DRIVERS = {"like_": "train-"}, {"any_": ["sweep", "study"]}
"""Names of the deployments whose runs are scheduled again."""

Filter = dict[str, Any]

log = logging.getLogger("cspipe.supervise")


@dataclass
class Watch:
    """The supervisor's view of the server. Times in seconds, except where they are datetimes."""

    window: float
    """Without a sign of life for so long, a run counts as lost."""
    nightly: timedelta = timedelta(hours=26)
    """Without a run for so long, the nightly re-evaluation counts as missed."""
    seeing: datetime | None = None
    """Since when the server has answered without a gap. Only what was missing in this time is held against a run."""
    last: datetime | None = None

    def look(self, client: SyncPrefectClient, now: datetime | None = None) -> None:
        """One round. Raises what the client raises if the server does not answer."""
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
    """CRASHED if neither the start of this attempt nor a heartbeat is newer than the window."""
    started = run.state.timestamp if run.state else run.start_time
    signs = [time for time in (started, _heartbeat(client, run)) if time is not None]
    silent = (now - max(signs)).total_seconds() if signs else window
    if silent >= window:
        _set(client, run, Crashed(message=f"worker lost: no heartbeat for {silent:.0f} s"))


def watch(window: float = 120.0, every: float = 30.0) -> None:
    """Watch, for ever.

    window: seconds without a sign of life after which a run is lost. every: seconds between two looks. Raises UserError
    if the window is shorter than three heartbeats.
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
    """Flow runs of our deployments, by Prefect's filters."""
    return client.read_flow_runs(deployment_filter=_ours(of), flow_run_filter=FlowRunFilter.model_validate(runs))


def _ours(more: Filter) -> DeploymentFilter:
    return DeploymentFilter.model_validate({"tags": {"all_": [TAG]}} | more)


def _heartbeat(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """When the server received the run's newest heartbeat: its clock, not the worker's, which may be wrong."""
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
    """The same run once more, unless a person cancelled it or it crashed too often; one that was stopped goes on."""
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
    """Propose a state. Not forced: a run that has just ended keeps its end."""
    if client.set_flow_run_state(run.id, state).status == SetStateStatus.ACCEPT:
        log.warning("%s: %s: %s", run.name, state.name, state.message)


def _warn_of_missed(client: SyncPrefectClient, now: datetime, limit: timedelta) -> None:
    """A warning and an artifact, once per `limit`, if the nightly re-evaluation has a schedule but did not run well."""
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
