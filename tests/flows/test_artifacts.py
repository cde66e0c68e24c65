"""What is shown in Prefect: images small enough for its database, progress from elsewhere."""

import base64
import io
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import Artifact

from cspipe.runtime.storage import Bucket
from cspipe.runtime.storage_errors import Unreachable
from flows.artifacts import LARGEST, ProgressElsewhere, data_uri, never_fails, show_plan
from flows.command import Step


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.removeprefix("data:image/png;base64,"))


def test_an_image_is_kept_as_it_is_or_shrunk_to_the_limit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    Image.fromarray(pixels[:40, :60]).save(tmp_path / "small.png")
    Image.fromarray(pixels).save(tmp_path / "large.png")
    shown = np.asarray(Image.open(io.BytesIO(decoded(data_uri(tmp_path / "small.png")))))
    assert (shown == pixels[:40, :60]).all()
    assert 0 < len(decoded(data_uri(tmp_path / "large.png"))) <= LARGEST


def made(name: str) -> Artifact:
    with get_client(sync_client=True) as client:
        [found] = client.read_artifacts(artifact_filter=ArtifactFilter.model_validate({"key": {"any_": [name]}}))
    return found


@pytest.mark.usefixtures("prefect")
def test_no_name_in_the_plan_is_taken_for_markdown() -> None:
    show_plan(["prepare: up to date", "train: would run: a`![](http://x)` modified"], "run")
    assert made("plan").data == "- `prepare: up to date`\n- `train: would run: a'![](http://x)' modified`"


@pytest.mark.usefixtures("prefect")
def test_the_driver_shows_how_far_a_worker_is(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.artifacts.LOOKED_EVERY", 0.0)
    shown = ProgressElsewhere("far-away", bucket, "runs/a/train.progress.json")
    shown.look()  # the worker has not begun
    bucket.put_json("runs/a/train.progress.json", asdict(Step("train", 24, 96, 3, 40)))
    flow(shown.look)()
    bar = made("progress-far-away")
    assert (bar.data, bar.description) == (25.0, "train: 24 of 96, 3 images/s, 40 s left")
    monkeypatch.setattr("flows.artifacts.StageProgress.__call__", lambda *step: pytest.fail("shown again"))
    shown.look()  # nothing new

    def away(bucket: Bucket, key: str) -> None:
        raise Unreachable(key)

    with monkeypatch.context() as outage:
        outage.setattr(Bucket, "get_json", away)
        shown.look()
    shown.end()
    assert made("progress-far-away").data == 100


def test_a_server_that_is_away_does_not_end_the_work() -> None:
    @never_fails
    def show() -> None:
        raise httpx.ConnectError("away")

    @never_fails
    def broken() -> None:
        raise ZeroDivisionError

    show()
    with pytest.raises(ZeroDivisionError):
        broken()
