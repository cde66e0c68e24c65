"""Files into a Report, and what people read when a file is not there or not right."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvclive import Live
from PIL import Image

from cspipe.config.params import Params
from cspipe.report.collect import WIDEST, collect, read_image
from cspipe.runtime.errors import UserError
from tests.report.conftest import VARIANTS, write_json

FILES = {
    "data/prepared/index.json": "dvc repro prepare",
    "data/prepared/preview.png": "dvc repro prepare",
    "models/main/config.json": "dvc repro train",
    "models/main/progress.png": "dvc repro train",
    "models/compensation/config.json": "dvc repro compensate",
    "curves/train/plots/metrics/loss.tsv": "dvc repro train",
    "curves/train/plots/metrics/grad_norm.tsv": "dvc repro train",
    "curves/train/plots/metrics/share.tsv": "dvc repro train",
    "curves/compensate/plots/metrics/loss.tsv": "dvc repro compensate",
    "curves/train-norm.tsv": "dvc repro train",
    "curves/norm.tsv": "dvc repro compensate",
    "curves/schedule.tsv": "dvc repro train",
    "samples/cs-100/grid.png": "dvc repro sample",
    "metrics/cs-100.json": "dvc repro evaluate",
    "neighbours/cs-100.png": "dvc repro evaluate",
}


def test_reads_what_was_written(tree: Path, params: Params) -> None:
    report = collect(tree, params)
    assert [r.name for r in report.results] == list(VARIANTS)
    assert report.results[1].scores.kid == 0.0214
    assert report.results[1].metrics.nearest_ratio == 0.98
    assert (report.parameters, report.module_parameters) == (1234567, 89012)
    assert report.provenance.images_seen == 64000
    assert report.provenance.model_dump()["code"] == {"cspipe/evaluation": "0123456789abcdef"}
    assert report.index.splits["test"].images == 553
    assert len(report.curves["loss"]["step"]) == len(report.curves["loss"]["loss"]) == 50
    assert math.isnan(report.curves["schedule"]["kappa"][0])
    assert report.curves["schedule"]["kappa"][1] == pytest.approx(1)
    assert yaml.safe_load(report.params_text) == yaml.safe_load((tree / "params.yaml").read_text())


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_its_command(tree: Path, params: Params, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(UserError) as caught:
        collect(tree, params)
    assert str(caught.value) == f"{tree / name}: is missing; `{FILES[name]}` makes this file"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"a\tb\n1"])
@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_is_named_with_its_command(tree: Path, params: Params, name: str, content: bytes) -> None:
    (tree / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        collect(tree, params)
    message = str(caught.value)
    assert message.startswith(f"{tree / name}: ")
    assert FILES[name] in message


def test_a_picture_cut_short_is_not_shown(tree: Path, params: Params) -> None:
    path = tree / "samples/cs-10/grid.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cs-10/grid\.png: is not a whole image"):
        collect(tree, params)


def test_a_wrong_value_is_named(tree: Path, params: Params) -> None:
    path = tree / "metrics/cs-10.json"
    content = json.loads(path.read_text())
    content["efflite0"]["kid"] = "small"
    write_json(path, content)
    with pytest.raises(UserError, match=r"cs-10\.json: .*kid: .*number"):
        collect(tree, params)


def test_a_cell_without_a_number_is_named(tree: Path, params: Params) -> None:
    (tree / "curves/norm.tsv").write_text("t\tnorm_ratio\terror\n1\t0.5\t0.9\n2\t0.5\n")
    with pytest.raises(UserError, match=r"norm\.tsv: line 3 has no number in column 'error'"):
        collect(tree, params)


def test_a_score_that_is_null_is_nan(tree: Path, params: Params) -> None:
    path = tree / "metrics/cs-10.json"
    content = json.loads(path.read_text())
    content["memorisation"]["nearest_ratio"] = None
    write_json(path, content)
    assert math.isnan(collect(tree, params).results[2].metrics.nearest_ratio)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("extractor", "inception-v3-compat", "params.yaml says"), ("reference_sha256", "00", "other images")],
)
def test_scores_that_cannot_be_compared(tree: Path, params: Params, key: str, value: str, message: str) -> None:
    path = tree / "metrics/cs-10.json"
    content = json.loads(path.read_text())
    content["provenance"][0][key] = value
    write_json(path, content)
    with pytest.raises(UserError, match=rf"cs-10\.json: .*{message}.*dvc repro evaluate"):
        collect(tree, params)


def test_plain_training_has_no_share(tree: Path, params: Params) -> None:
    (tree / "curves/train/plots/metrics/share.tsv").unlink()
    (tree / "curves/train-norm.tsv").write_text("t\tnorm_ratio\terror\n")
    plain = params.model_copy(update={"train": params.train.model_copy(update={"method": "plain"})})
    curves = collect(tree, plain).curves
    assert curves["share"]["step"] == curves["train_norm"]["t"] == []


def test_reads_the_tables_that_dvclive_writes(tree: Path, params: Params) -> None:
    with Live(str(tree / "curves/compensate"), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        for step, loss in ((64, 0.5), (128, math.nan), (192, 0.25)):
            live.step = step
            live.log_metric("loss", loss)
    columns = collect(tree, params).curves["module_loss"]
    assert columns["step"] == [64, 128, 192]
    assert columns["loss"] == [0.5, pytest.approx(math.nan, nan_ok=True), 0.25]


def test_a_small_picture_is_embedded_as_it_is(tree: Path) -> None:
    path = tree / "data/prepared/preview.png"
    image = read_image(path, "make it")
    kind, content = image.uri.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == path.read_bytes()


def test_a_wide_picture_is_reduced(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.full((500, 2 * WIDEST, 3), (200, 40, 90), np.uint8)).save(path)
    image = read_image(path, "make it")
    assert (image.width, image.height) == (WIDEST, 250)
    embedded = Image.open(io.BytesIO(base64.b64decode(image.uri.split(",")[1])))
    assert embedded.size == (WIDEST, 250)
    assert np.asarray(embedded)[100, 100].astype(int) == pytest.approx((200, 40, 90), abs=3)
