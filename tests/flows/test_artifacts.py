"""What is shown in Prefect: pictures small enough for its database, scores beside the recorded ones."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
import wandb
from PIL import Image
from wandb.sdk.lib.printer import new_printer
from wandb.sdk.wandb_run import Run

from flows.artifacts import LARGEST, CurvesLink, data_uri, key, never_fails, read_scores, score_rows


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.removeprefix("data:image/png;base64,"))


def test_a_small_picture_is_kept_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    shown = np.asarray(Image.open(io.BytesIO(decoded(data_uri(tmp_path / "a.png")))))
    assert (shown == pixels).all()


def test_a_large_picture_is_shrunk_to_the_limit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert 0 < len(decoded(data_uri(tmp_path / "a.png"))) <= LARGEST


def test_scores_stand_beside_the_recorded_ones() -> None:
    now = {"cs-10": {"kid": 0.5, "kid_std": 0.1}, "new-one": {"kid": 0.2, "kid_std": 0.1}}
    rows = score_rows(now, {"cs-10": {"kid": 0.75}})
    assert rows == [
        {"variant": "cs-10", "kid": 0.5, "kid change": "-0.25", "kid_std": 0.1},
        {"variant": "new-one", "kid": 0.2, "kid change": "new", "kid_std": 0.1},
    ]


def test_scores_are_those_of_the_extractor() -> None:
    assert read_scores('{"efflite0": {"kid": 0.5, "other": 1}, "bracket": {"kid": 9}}') == {"kid": 0.5}


def test_scores_against_the_truth_stand_beside_them() -> None:
    metrics = '{"efflite0": {"kid": 0.1, "inception_score": 2}, "truth": {"psnr": 30.5, "efflite0_distance": 9.1}}'
    assert read_scores(metrics) == {"kid": 0.1, "psnr": 30.5, "efflite0_distance": 9.1}


def test_keys_are_what_prefect_takes() -> None:
    assert key("pictures", "sample@cs-10") == "pictures-sample-cs-10"


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


def test_the_link_to_the_curves_is_the_one_that_wandb_prints(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Read from what the installed wandb prints at the end of a run that is online; one link for all its lines."""
    settings = wandb.Settings(run_name="train-0123", run_id="8k2j1xq0", entity="team", project="cspipe", mode="online")
    Run._footer_sync_info(settings=settings, printer=new_printer(settings))
    printed = capfd.readouterr().err
    shown, told = [], list[str]()
    monkeypatch.setattr("flows.artifacts.create_link_artifact", lambda page, **more: shown.append((page, more["key"])))
    link = CurvesLink("train", told.append)
    for line in [
        *printed.splitlines(),
        *printed.splitlines(),
        "wandb: Tracking run with wandb version 0.1",
        "train: 1",
    ]:
        link(line)
    assert shown == [(settings.run_url, "wandb-train")]
    assert settings.run_url.endswith("/team/cspipe/runs/8k2j1xq0")
    assert len(told) == 2 * len(printed.splitlines()) + 2
