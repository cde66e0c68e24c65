"""Stage evaluate in a finished clone, with the packaged extractor: what it writes, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Tree
from tests.stages.conftest import set_params, stage

SAMPLES = "samples/ddim-100"
EXPOSURE = {"exposure_75": 0.4, "exposure_50": 0.255, "exposure_25": 0.1, "exposure_10": 0.1}
"""Of the table below, at the steps of the walk that are nearest to these per cent of it."""


def prepared(clone: Path) -> Tree:
    """How the samples were made, now on a GPU of another machine; with an exposure bias, and fewer images to score."""
    set_params(clone, {"evaluate.images": 14})
    rows = [(t, 1 - t / 200, 1 - t / 100) for t in (100, 80, 51, 20, 0)]
    lines = ["t\tsampled\tforward", *("\t".join(map(str, row)) for row in rows)]
    (clone / SAMPLES / "exposure.tsv").write_text("\n".join(lines) + "\n")
    made = json.loads((clone / SAMPLES / "samples.json").read_text()) | {"device": "H200"}
    (clone / SAMPLES / "samples.json").write_text(json.dumps(made))
    return made


def test_scores_neighbours_exposure_and_provenance_are_written(clone: Path) -> None:
    made = prepared(clone)
    stage(clone, "evaluate", "ddim-100")
    text = (clone / "metrics/ddim-100.json").read_text()
    assert str(clone) not in text
    metrics = json.loads(text)
    assert list(metrics) == ["efflite0", "bracket", "provenance", "memorisation", "exposure"]
    assert set(metrics["efflite0"]) == {"kid", "kid_std", "frechet", "precision", "recall", "inception_score"}
    assert set(metrics["bracket"]) == {"heldout_kid", "heldout_frechet", "noise_kid", "noise_frechet"}
    assert metrics["bracket"]["heldout_kid"] < metrics["efflite0"]["kid"] < metrics["bracket"]["noise_kid"]
    assert metrics["memorisation"]["nearest_ratio"] > 1
    assert metrics["exposure"] == pytest.approx(EXPOSURE)
    (provenance,) = metrics["provenance"]
    assert {provenance[f"{key}_images"] for key in ("reference", "samples", "heldout")} == {14}
    kept = made.keys() - {"images", "device", "code", "file_sha256"}
    assert {key: provenance[key] for key in kept} == {key: made[key] for key in kept}
    assert provenance["samples_sha256"] == made["file_sha256"]
    assert (provenance["samples_device"], provenance["device"][:3]) == ("H200", "cpu")
    assert provenance["code"].keys() == {"train", "sample", "evaluate"}
    assert Image.open(clone / "neighbours/ddim-100.png").size == (9 * 65 + 1, 4 * 65 + 1)


def test_samples_of_another_kind_and_half_a_file_are_refused(clone: Path, refusal: Callable[..., str]) -> None:
    file = clone / SAMPLES / "samples.npy"
    images, whole = np.load(file), file.read_bytes()
    for other in (images[..., ::2, ::2], images[:, :1], images.astype(np.float32)):
        np.save(file, other)
        told = refusal(clone, "evaluate", "ddim-100")
        assert "but data/prepared has uint8 images (3, 8, 8); run `dvc repro sample@ddim-100`" in told
    for size in (0, 1000):
        file.write_bytes(whole[:size])
        assert "not readable" in refusal(clone, "evaluate", "ddim-100")
    file.unlink()
    told = refusal(clone, "evaluate", "ddim-100")
    assert f"{SAMPLES}/samples.npy: not there; `dvc repro sample@ddim-100` makes it" in told
