"""The packaged extractor, and what people read when weights are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import create_feature_extractor

from cspipe.evaluation.extractors import INPUT_SIDE, Extractor, find_extractor
from cspipe.evaluation.image_sets import ImageSet, NoiseSource
from cspipe.evaluation.scores import Measure, bracket, score
from cspipe.runtime.errors import UserError
from tests.evaluation.tiny import blobs, source_of


@pytest.fixture(scope="module")
def packaged() -> Extractor:
    return find_extractor("efficientnet-lite0", None)


def build(extractor: Extractor, layers: list[str]) -> FeatureExtractorBase:
    return create_feature_extractor(
        extractor.name, layers, cuda=False, verbose=False, feature_extractor_weights_path=str(extractor.weights)
    )


def test_features_equal_the_plain_net(packaged: Extractor) -> None:
    net = EfficientNet.from_name("efficientnet-lite0", image_size=INPUT_SIDE).eval()
    net.load_state_dict(torch.load(packaged.weights, weights_only=True))
    images = torch.from_numpy(blobs(3, 0, size=INPUT_SIDE))
    with torch.no_grad():
        logits, features = build(packaged, ["logits", "features"])(images)
        plain = net((images.float() - 127) / 128)
    assert features.shape == (3, 1280)
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)


def test_large_images_are_averaged_not_sampled(packaged: Extractor) -> None:
    lines = np.zeros((3, 8 * INPUT_SIDE, 8 * INPUT_SIDE), np.uint8)
    lines[..., 3::8] = lines[..., 4::8] = 200  # where a resize without antialiasing takes its values: all 200
    mean, lit = (np.full_like(lines, value) for value in (50, 200))
    with torch.no_grad():
        (features,) = build(packaged, ["features"])(torch.from_numpy(np.stack([lines, mean, lit])))
    assert (features[0] - features[1]).norm() < 0.3 * (features[0] - features[2]).norm()


def test_scores_order_sets_by_how_far_they_are(packaged: Extractor, tmp_path: Path) -> None:
    measure = Measure(packaged, 32, 10, 48, torch.device("cpu"), tmp_path)
    reference, other = ImageSet(source_of(blobs(48, 0)), 48), blobs(48, 1)
    speckles = np.random.default_rng(0).normal(0, 8, other.shape)
    shifted = score(ImageSet(source_of((other + speckles).clip(0, 255).astype(np.uint8)), 48), reference, measure)
    limits = bracket(ImageSet(source_of(other), 48), reference, ImageSet(NoiseSource(48, (3, 16, 16))), measure)
    assert limits["heldout_kid"] < shifted["kid"] < limits["noise_kid"]
    assert limits["heldout_frechet"] < shifted["frechet"] < limits["noise_frechet"]


@pytest.mark.parametrize("weights", [None, "models/weights-inception-2015-12-05-6726825d.pth"])
def test_missing_inception_weights_say_what_to_do(weights: str | None) -> None:
    with pytest.raises(UserError) as error:
        find_extractor("inception-v3-compat", weights and Path(weights))
    for part in [
        "weights-inception-2015-12-05-6726825d.pth",
        "github.com/toshas/torch-fidelity/releases",
        "evaluate.weights",
    ]:
        assert part in str(error.value)
    assert (weights or "null") in str(error.value)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "inception-v3-compat"])
def test_a_wrong_weights_file_is_refused_before_it_is_loaded(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"half a download")
    with pytest.raises(UserError, match=r"weights\.pth: not the weights of"):
        find_extractor(name, path)
