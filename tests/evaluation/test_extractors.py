"""The packaged extractor, and what people read when weights are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import create_feature_extractor

from cspipe.evaluation.extractors import INPUT_SIDE, Extractor, find_extractor
from cspipe.runtime.errors import UserError
from tests.evaluation.tiny import blobs


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
