"""The packaged extractor, and what people read when weights are missing."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from cspipe.evaluation import extractors
from cspipe.evaluation.extractors import INPUT_SIDE, Extractor, find_extractor
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from tests.evaluation.tiny import blobs

CPU = torch.device("cpu")
LAYERS = {"efficientnet-lite0": "features", "inception-v3-compat": "2048"}


@pytest.fixture(scope="module")
def packaged() -> Extractor:
    return find_extractor("efficientnet-lite0", None)


def test_features_equal_the_plain_net(packaged: Extractor) -> None:
    net = EfficientNet.from_name("efficientnet-lite0", image_size=INPUT_SIDE).eval()
    net.load_state_dict(torch.load(packaged.weights, weights_only=True))
    images = torch.from_numpy(blobs(3, 0, size=INPUT_SIDE))
    with torch.no_grad():
        logits, features = extractors.build(packaged, ["logits", "features"], CPU)(images)
        x = ((images.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        same = net.to(memory_format=torch.channels_last).extract_features(x).mean((2, 3))
        plain = net.to(memory_format=torch.contiguous_format)((images.float() - 127) / 128)
    assert features.shape == (3, 1280)
    assert torch.equal(features, same.double())
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


@pytest.mark.parametrize("name", LAYERS)
def test_a_weights_file_with_the_right_hash_runs_nothing(
    name: str, tmp_path: Path, evil: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been replaced after its hash was compared."""
    path = tmp_path / "weights.pth"
    path.write_bytes(evil)
    monkeypatch.setitem(extractors.SHA256, name, sha256_file(path))
    with pytest.raises(UserError, match=r"weights\.pth: "):
        extractors.build(find_extractor(name, path), [LAYERS[name]], CPU)
