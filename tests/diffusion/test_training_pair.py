"""The loss of a training pair."""

from typing import Literal

import pytest
import torch

from cspipe.diffusion.training_pair import TrainingPair


@pytest.mark.parametrize(("norm", "best"), [("l2", 0.25), ("l1", 0.0)])
def test_the_loss_is_least_at_the_mean_or_at_the_median(norm: Literal["l1", "l2"], best: float) -> None:
    """Of the images that one state can be: three are 0, one is 1."""
    images = torch.tensor([0.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1, 1)
    pair = TrainingPair(images, torch.ones(4), images, torch.ones(4))
    outputs = torch.linspace(-1, 2, 301)
    losses = torch.stack([pair.loss(output.expand(4, 1, 1, 1), norm) for output in outputs])
    assert float(outputs[losses.argmin()]) == pytest.approx(best, abs=0.006)
    doubled = pair._replace(weight=2 * pair.weight)
    assert torch.allclose(doubled.loss(images + 3, norm), 2 * pair.loss(images + 3, norm))
