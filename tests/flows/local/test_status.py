"""`cspipe status` on runs in every state, on a real server."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import Flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import AwaitingRetry, Completed, Pending, Running, Scheduled

from flows.local import status
from flows.pipeline import pipeline
from flows.stage_run import run_stage
from flows.sweep import sweep


@task
def work() -> None:
    """A task to have runs of."""


def new_run(client: SyncPrefectClient, what: Flow[..., Any], name: str, state: Any, **parameters: Any) -> FlowRun:
    return client.create_flow_run(what, name=name, state=state, parameters=parameters)


def new_task(client: SyncPrefectClient, of: FlowRun, name: str, state: Any) -> TaskRun:
    return client.create_task_run(work, of.id, dynamic_key=name, name=name, state=state)


def sent(client: SyncPrefectClient, driver: FlowRun, stage: str, state: Any) -> FlowRun:
    """A stage on a worker, with the task that stands in for it."""
    stand_in = new_task(client, driver, f"noisy-{stage}", Running())
    parameters = {"driver": str(driver.id), "node": {"name": stage}}
    return client.create_flow_run(
        run_stage, name=f"{stage} of {driver.name}", state=state, parameters=parameters, parent_task_run_id=stand_in.id
    )


def bar(client: SyncPrefectClient, of: FlowRun, stage: str, percent: float, left: int) -> None:
    text = f"{stage}: 5 of 9, 7 images/s, {left} s left"
    client.create_artifact(
        ArtifactCreate(type="progress", key=f"progress-{stage}", data=percent, description=text, flow_run_id=of.id)
    )


def test_each_run_is_a_line_with_its_stages(client: SyncPrefectClient) -> None:
    for run in client.read_flow_runs():  # of other tests
        client.delete_flow_run(run.id)
    driver = new_run(client, pipeline, "demo-0a1b2c3-4d5e6f", Running(), preset="demo")
    client.create_task_run(work, driver.id, dynamic_key="killed", name="train", state=Running())
    for stage in ("train", "compensate", "sample@a"):
        new_task(client, driver, stage, Running())
    new_task(client, driver, "report", Pending())
    new_task(client, driver, "sample@b", AwaitingRetry())
    training = sent(client, driver, "train", Running())
    sent(client, driver, "compensate", Pending())
    bar(client, training, "train", 41.0, 600)
    bar(client, training, "train", 62.4, 87)
    new_run(client, sweep, "happy-cat", AwaitingRetry(), grid={})
    new_run(client, pipeline, "quick-fox", Pending(), preset="ffhq256")
    new_run(client, pipeline, "ended", Completed(), preset="demo")
    new_run(client, pipeline, "later", Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=5)), preset="demo")
    first, *others = status.run_lines(client)
    name, state, stages = first[:33].strip(), first[33:47].strip(), first[47:]
    assert (name, state) == ("demo-0a1b2c3-4d5e6f", "Running")
    assert stages.count("train") == 1
    whole = {"train 62 %, 87 s left", "compensate waits for a worker", "sample@a", "sample@b is tried again soon"}
    assert len(first) <= status.WIDTH
    assert all(any(words.startswith(cell) for words in whole) for cell in stages.rstrip(";").split("; "))
    assert [line.split() for line in others] == [
        ["sweep", "happy-cat", "AwaitingRetry"], ["ffhq256", "quick-fox", "Pending"]
    ]  # fmt: skip
