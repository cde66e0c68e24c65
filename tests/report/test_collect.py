"""Files into a Report, and what people read when a file is not there or not right."""

import json
import math
from pathlib import Path

import pytest

from cspipe.config.params import Params
from cspipe.report.collect import collect
from cspipe.runtime.errors import UserError
from tests.report.conftest import write_json

FILES = {
    "data/prepared/index.json": "dvc repro prepare",
    "data/prepared/preview.png": "dvc repro prepare",
    "models/main/config.json": "dvc repro train",
    "models/compensation/config.json": "dvc repro compensate",
    "curves/train/plots/metrics/loss.tsv": "dvc repro train",
    "curves/train-norm.tsv": "dvc repro train",
    "curves/norm.tsv": "dvc repro compensate",
    "curves/schedule.tsv": "dvc repro train",
    "samples/cs-100/grid.png": "dvc repro sample",
    "metrics/cs-100.json": "dvc repro evaluate",
    "neighbours/cs-100.png": "dvc repro evaluate",
}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_its_command(tree: Path, params: Params, name: str) -> None:
    (tree / name).unlink()
    with pytest.raises(UserError) as caught:
        collect(tree, params)
    assert str(caught.value) == f"{tree / name}: is missing; `{FILES[name]}` makes this file"


@pytest.mark.parametrize("name", FILES)
def test_a_malformed_file_is_named_with_its_command(tree: Path, params: Params, name: str) -> None:
    for content in (b"", b"\xff\xfe\x00", b"{", b"a\tb\n1"):
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
