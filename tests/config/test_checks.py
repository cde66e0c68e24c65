"""What would stop a run late is told before the first step of training, with key, value and fix."""

from collections.abc import Callable

import pytest

from cspipe.config.checks import check_before_training, check_held_out
from cspipe.config.params import Params
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.stages.train import new_trainer
from cspipe.training.stream import TrainingSet
from tests.conftest import Images, Tree

Make = Callable[..., Params]
INCEPTION = {"evaluate.extractor": "inception-v3-compat", "evaluate.weights": "nowhere/inception.pth"}
EDM = {"diffusion.prediction": "edm", "diffusion.schedule": "karras"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.batch": 48, "train.micro_batch": 8}, ["train.batch 48", "40 training images", "set it to 40 or less"]),
        ({"compensation.batch": 41}, ["compensation.batch 41", "40 training images", "set it to 40 or less"]),
        (INCEPTION, ["evaluate.weights nowhere/inception.pth", "weights-inception-2015-12-05", "correct the path"]),
    ],
)
def test_told_before_any_step(changes: Tree, told: list[str], params: Make, images: Images) -> None:
    settings = params(changes)
    with pytest.raises(UserError, match=r"^params\.yaml: ") as error:
        new_trainer(settings, TrainingSet(images), open_device(settings.compute))  # type: ignore[arg-type]
    assert all(words in str(error.value) for words in told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.compensation.epochs": 2}, ["train.images 48", "epochs 2 x 40 training images", "80 or more"]),
        ({"train.snapshots": [16, 2000]}, ["train.images 48", "train.snapshots [16, 2000]"]),
        (EDM, ["diffusion.prediction is edm", "train.timesteps is uniform", "lognormal"]),
        (EDM | {"train.timesteps": "lognormal"}, []),
        ({"variants.ddim-100.sampler": "heun", "variants.ddim-100.steps": 10}, ["variants.ddim-100.sampler", "cosine"]),
    ],
)
def test_what_is_odd_is_told_but_runs(
    changes: Tree, told: list[str], params: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    check_before_training(params(changes), 40)
    heard = capsys.readouterr().err
    assert all(words in heard for words in told)
    assert bool(heard) == bool(told)


def test_too_few_held_out_images_for_scores_are_told_before_the_training() -> None:
    check_held_out(4)
    with pytest.raises(UserError, match=r"3 held-out images, and scores compare at least 4.*data\.held_out"):
        check_held_out(3)
