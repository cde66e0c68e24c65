"""What would stop a run late is told before the first step of training, with key, value and fix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cspipe.config.checks import check_before_training
from cspipe.config.params import Params
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.stages.train import new_trainer
from cspipe.training.stream import TrainingSet
from tests.conftest import Pictures, Tree

Make = Callable[..., Params]
INCEPTION = {"evaluate.extractor": "inception-v3-compat", "evaluate.weights": "nowhere/inception.pth"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compensation.batch": 41}, ["compensation.batch 41", "40 training images", "set it to 40 or less"]),
        (INCEPTION, ["evaluate.weights nowhere/inception.pth", "weights-inception-2015-12-05", "correct the path"]),
    ],
)
def test_told_before_any_step(changes: Tree, told: list[str], params: Make, pictures: Pictures) -> None:
    settings = params(changes)
    with pytest.raises(UserError, match=r"^params\.yaml: ") as error:
        new_trainer(settings, TrainingSet(pictures), open_device(settings.compute))  # type: ignore[arg-type]
    assert all(words in str(error.value) for words in told)


def test_a_run_too_short_for_the_module_is_told_but_runs(params: Make, capsys: pytest.CaptureFixture[str]) -> None:
    check_before_training(params({"train.compensation.epochs": 2}), 40)
    told = capsys.readouterr().err
    assert "train.images 48 is less than train.compensation.start 0 and epochs 2 x 40 training images" in told
    assert "80 or more" in told


def test_a_run_too_short_for_its_snapshots_is_told_but_runs(params: Make, capsys: pytest.CaptureFixture[str]) -> None:
    check_before_training(params({"train.snapshots": [16, 2000]}), 40)
    told = capsys.readouterr().err
    assert "train.snapshots [16, 2000]" in told
    assert "train.images 48" in told
