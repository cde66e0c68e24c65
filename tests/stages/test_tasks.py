"""Inpainting and de-occlusion by the real stages: what is given stays, what is scored was held out."""

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from cspipe.config.params_file import parse_params
from cspipe.data.shards import open_split
from cspipe.study.collect import scores_of
from cspipe.study.definition import Cell
from tests.conftest import Tree, change
from tests.stages.conftest import new_clone, set_params, stage, stages

VARIANT = "cs-10"
STAGES = ("prepare", "train", "compensate", f"sample {VARIANT}", f"evaluate {VARIANT}", "report")
KAPPA = {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None}
FILL = {"rounds": 2, "masks": ["expand"]}
REPAINT = {"sampler": "ddpm", "steps": 5, "eta": 1.0, "reads": "models/main", "repaint": FILL}
CORRECTED = {"sampler": "ddim", "eta": 0.0, "reads": "models", "correction": KAPPA}


def run(folder: Path, small: Tree, changes: Tree, lines: tuple[str, ...] = STAGES) -> Path:
    variants = {VARIANT: {**small["variants"][VARIANT], "terminal": "mean"}}
    clone = new_clone(folder / "clone", change(small, {"variants": variants, **changes}))
    stages(clone, *lines)
    return clone


@pytest.fixture(scope="module")
def inpainted(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    folder = tmp_path_factory.mktemp("inpainted")
    (folder / "masks").mkdir()
    corner = np.zeros((16, 16), np.uint8)
    corner[:8, :8] = 255
    Image.fromarray(corner).save(folder / "masks/corner.png")
    masks = {"condition.masks": ["half", "box"], "condition.mask_folder": str(folder / "masks")}
    return run(folder, small, {"task": "inpaint", "sample.images": 18, "evaluate.images": 18, **masks})


@pytest.fixture(scope="module")
def deoccluded(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    pairs = {"data.avatars.paired": "glasses", "data.size": 16, "model.attention": [8]}
    return run(tmp_path_factory.mktemp("deoccluded"), small, {"task": "deocclude", **pairs})


def arrays(clone: Path, variant: str = VARIANT) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Results and inputs."""
    return tuple(np.load(clone / f"samples/{variant}/{name}.npy") for name in ("samples", "inputs"))  # type: ignore[return-value]


def paired(clone: Path, variant: str = VARIANT) -> Tree:
    return json.loads((clone / f"metrics/{variant}.json").read_text())["paired"][0]


def test_known_pixels_are_those_of_held_out_pictures_and_come_back_exactly(inpainted: Path) -> None:
    results, inputs = arrays(inpainted)
    hole = inputs[:, 3:] == 255
    assert hole.any((1, 2, 3)).all()
    np.testing.assert_array_equal(np.where(hole, 0, results), np.where(hole, 0, inputs[:, :3]))
    truths = open_split(inpainted / "data/prepared", "test").gather(np.arange(18) // 3)
    np.testing.assert_array_equal(np.where(hole, 0, results), np.where(hole, 0, truths))
    assert (np.where(hole, inputs[:, :3], 128) == 128).all(), "nothing of the hole is told"


def test_inputs_that_are_damaged_are_not_scored(inpainted: Path) -> None:
    file = inpainted / f"samples/{VARIANT}/inputs.npy"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    refused = stage(inpainted, "evaluate", VARIANT, check=False)
    file.write_bytes(before)
    assert refused.returncode == 1
    assert "inputs.npy: damaged since it was stored" in refused.stderr


def test_every_family_is_tried_on_the_same_pictures_and_scored_apart(inpainted: Path) -> None:
    _, inputs = arrays(inpainted)
    corners = inputs[2::3, 3] == 255
    assert (corners == (np.add.outer(np.arange(8) // 4, np.arange(8) // 4 * 2) == 0)).all()
    assert set(paired(inpainted)) == {"result", "input", "mean", "nearest"}
    for scores in paired(inpainted).values():
        assert set(scores) == {"all", "half", "box", "own"}
        assert set(scores["all"]) == {"psnr", "ssim", "l1", "efflite0_distance"}
        assert all(value["low"] <= value["mean"] <= value["high"] for value in scores["all"].values())
    metrics = json.loads((inpainted / f"metrics/{VARIANT}.json").read_text())
    assert set(metrics["truth"]) < set(scores_of(metrics))  # a study may name each


def test_report_and_terminal_tell_the_scores_against_the_truth(inpainted: Path) -> None:
    page = (inpainted / "report/report.html").read_text()
    mean = f"{paired(inpainted)['result']['half']['psnr']['mean']:.2f}"
    assert "Against the truth" in page
    assert "nearest training image" in page
    assert mean in page
    assert mean in stage(inpainted, "report").stdout


def test_occluded_pictures_are_held_out_pairs(deoccluded: Path) -> None:
    _, inputs = arrays(deoccluded)
    test, train = (open_split(deoccluded / "data/prepared", split) for split in ("test", "train"))
    np.testing.assert_array_equal(inputs, test.paired.gather(np.arange(len(inputs))))
    seen = {image.tobytes() for image in train.gather(np.arange(len(train)))}
    seen |= {image.tobytes() for image in train.paired.gather(np.arange(len(train)))}
    assert not seen & {image.tobytes() for image in (*test.gather(np.arange(len(test))), *inputs)}
    assert set(paired(deoccluded)["result"]) == {"all"}
    assert paired(deoccluded)["input"]["all"]["psnr"]["mean"] < 50


def test_error_in_holes_is_variance_and_the_rest(inpainted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path("studies/inpaint/variance.py")
    monkeypatch.chdir(inpainted)
    tree = yaml.safe_load(Path("params.yaml").read_text())
    cell = Cell("a", "cs", None, 0, (VARIANT,), tree, parse_params(tree, "params.yaml"))
    ((variant, numbers),) = script["measure"](cell)
    assert variant == VARIANT
    assert numbers["variance"] > 0
    assert numbers["error"] == pytest.approx(numbers["variance"] + numbers["rest"])
    draws = np.random.Generator(np.random.PCG64(0)).normal(140, 10, (8, 1000, 1, 2, 2)).round().astype(np.uint8)
    truths, holes = np.full((1000, 1, 2, 2), 120, np.uint8), np.ones((1000, 1, 2, 2), np.bool_)
    parts = script["split"](draws, truths, holes)
    assert parts["variance"] == pytest.approx((10 / 127.5) ** 2, rel=0.05)
    assert parts["rest"] == pytest.approx((20 / 127.5) ** 2, rel=0.05)  # the square of the bias


@pytest.mark.slow
def test_net_without_conditions_fills_holes_by_repaint_with_and_without_compensation(
    tmp_path: Path, small: Tree
) -> None:
    """As many samples as there are held-out images; noise alone gives as many as are asked for."""
    plain = {**REPAINT, "repaint": None}
    variants = {"re": REPAINT, "re-cs": {**REPAINT, **CORRECTED}, "plain": plain}
    samples = (f"sample {name}" for name in variants)
    lines = ("prepare", "train", "compensate", *samples, "evaluate re", "evaluate re-cs")
    clone = run(tmp_path, small, {"variants": variants, "sample.images": 20, "evaluate.images": 20}, lines)
    for name in ("re", "re-cs"):
        results, inputs = arrays(clone, name)
        hole = inputs[:, 3:] == 255
        np.testing.assert_array_equal(np.where(hole, 0, results), np.where(hole, 0, inputs[:, :3]))
        assert len(results) == 16
        assert not np.array_equal(results, inputs[:, :3])
        assert paired(clone, name)["result"]["all"]["psnr"]["mean"] > 0
    assert not np.array_equal(arrays(clone, "re")[0], arrays(clone, "re-cs")[0])
    assert len(np.load(clone / "samples/plain/samples.npy")) == 20


def test_too_few_held_out_pictures_are_told_before_training(
    deoccluded: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    (tmp_path / "data").symlink_to(deoccluded / "data")
    shutil.copy(deoccluded / "params.yaml", tmp_path)
    set_params(tmp_path, {"sample.images": 17})
    said = refusal(tmp_path, "train")
    assert "sample.images 17 is more than the test split has for the task (16" in said
    assert "set it to 16 or less" in said
