"""A training method that does not do what it must."""

from pathlib import Path

import pytest

from cspipe.diffusion.training_pair import TrainingPair
from cspipe.runtime.errors import UserError
from cspipe.runtime.registry import choice
from cspipe.training.settings import METHODS
from tests.conftest import Images
from tests.training.test_training import Make, new_main_net, train


def test_a_method_that_loses_images_is_refused(
    params: Make, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of the batch would be trained plainly, and the curve would say that they were not."""
    method = choice(METHODS, "scheduled_sampling")
    whole = method.pair
    monkeypatch.setattr(method, "pair", lambda step: TrainingPair(*(part[:2] for part in whole(step))))
    p = params({"train.method": "scheduled_sampling", "train.compensation.share": 1.0, "train.compensation.fade": 0.0})
    with pytest.raises(UserError, match=r"scheduled_sampling: pair returned \(2, 3, 8, 8\)"):
        train(new_main_net(p, images), p, images, tmp_path)
