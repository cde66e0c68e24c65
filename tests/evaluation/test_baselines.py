"""Trivial answers, against a search written out here."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cspipe.data.conditions import masked
from cspipe.evaluation import baselines as module
from cspipe.evaluation.baselines import baselines
from tests.evaluation.tiny import blobs, source_of

CPU = torch.device("cpu")
TRAIN, TRUTHS = blobs(20, 1), blobs(6, 0)
HOLES = np.random.default_rng(0).random((6, 1, 16, 16)) < 0.4


@pytest.fixture(params=[1, 5 * 768, 2**23])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image per block, several, all."""
    monkeypatch.setattr(module, "BLOCK_NUMBERS", request.param)


def nearest(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The training image with the least squared difference on the known pixels (H, W)."""
    errors = [np.square((other.astype(float) - image)[:, known]).sum() for other in TRAIN]
    return TRAIN[int(np.argmin(errors))]


@pytest.mark.usefixtures("_blocks")
def test_inpainting_answers_fill_the_hole_alone() -> None:
    answers = baselines("inpaint", masked(TRUTHS, HOLES), source_of(TRAIN), CPU)
    fills = {
        "input": np.full_like(TRUTHS, 128),
        "mean": np.rint(TRAIN.astype(float).mean(0))[None].repeat(6, 0),
        "nearest": np.stack([nearest(t, ~hole[0]) for t, hole in zip(TRUTHS, HOLES, strict=True)]),
    }
    assert list(answers) == list(fills)
    for name, fill in fills.items():
        assert answers[name].dtype == np.uint8
        np.testing.assert_array_equal(answers[name], np.where(HOLES, fill, TRUTHS), name)


@pytest.mark.usefixtures("_blocks")
def test_deocclusion_answers_replace_the_image() -> None:
    answers = baselines("deocclude", TRUTHS, source_of(TRAIN), CPU)
    everywhere = np.ones((16, 16), np.bool_)
    np.testing.assert_array_equal(answers["input"], TRUTHS)
    np.testing.assert_array_equal(answers["mean"], np.rint(TRAIN.astype(float).mean(0))[None].repeat(6, 0))
    np.testing.assert_array_equal(answers["nearest"], np.stack([nearest(t, everywhere) for t in TRUTHS]))


def test_large_images_are_compared_as_sums_over_squares() -> None:
    """By the same search on images that are made small beforehand; a square is known if all of it is."""
    train, truths = (images.repeat(4, 2).repeat(4, 3) for images in (TRAIN, TRUTHS))
    assert train.shape[-1] == 2 * module.SEARCHED
    holes = np.zeros((6, 1, 64, 64), np.bool_)
    holes[:, :, :20] = True
    holes[:, :, 21, 5] = True
    small = [(other.reshape(3, 32, 2, 32, 2).sum((2, 4)).astype(float)) for other in train]
    known = (~holes[0, 0]).reshape(32, 2, 32, 2).all((1, 3))
    answers = baselines("inpaint", masked(truths, holes), source_of(train), CPU)["nearest"]
    for answer, truth in zip(answers, truths, strict=True):
        query = truth.reshape(3, 32, 2, 32, 2).sum((2, 4)).astype(float)
        wanted = int(np.argmin([np.square((other - query)[:, known]).sum() for other in small]))
        np.testing.assert_array_equal(answer, np.where(holes[0], train[wanted], truth))
