"""LPIPS against its definition, on made-up weights, and the distance that stands in for it."""

from pathlib import Path
from typing import Any

import lpips
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from cspipe.evaluation import perceptual
from cspipe.evaluation.perceptual import Perceptual, open_perceptual
from cspipe.evaluation.settings import LpipsSettings
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from tests.evaluation.tiny import TINY, blobs, tiny_features

CPU = torch.device("cpu")
NETS = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}
LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""The five rectified layers that are compared, by their places in torchvision's net."""


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Perceptual, Any]:
    """LPIPS of a net with random weights from a file, and those weights."""
    name: str = request.param
    torch.manual_seed(0)
    features = NETS[name]().features
    weights = tmp_path / "weights.pth"
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, weights)
    monkeypatch.setitem(perceptual.WEIGHTS, name, f"made-up-{sha256_file(weights)[:8]}.pth")
    return open_perceptual(LpipsSettings(net=name, weights=weights), TINY, CPU), features


def by_definition(net: str, features: torch.nn.Sequential, a: Tensor, b: Tensor) -> Tensor:
    """Squared differences of features, normalised over channels, weighted, averaged over places, summed: (N,)."""
    fit = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]]).reshape(2, 3, 1, 1)
    x, y = ((images - shift) / scale for images in (a, b))
    distance = torch.zeros(len(a))
    for place, layer in enumerate(features[: LAYERS[net][-1] + 1]):
        x, y = layer(x), layer(y)
        if place in LAYERS[net]:
            weights = fit[f"lin{LAYERS[net].index(place)}.model.1.weight"]
            difference = torch.nn.functional.normalize(x) - torch.nn.functional.normalize(y)
            distance += (weights * difference.square()).sum(1).mean((1, 2))
    return distance


@pytest.mark.parametrize(("opened", "net"), [("alex", "alex"), ("vgg", "vgg")], indirect=["opened"])
def test_lpips_is_that_of_its_definition(opened: tuple[Perceptual, Any], net: str) -> None:
    """With the weights of the file; small images are enlarged."""
    measure, features = opened
    assert measure.label == f"lpips_{net}"
    for size in (48, 16):
        a, b = blobs(5, 0, size=size), blobs(5, 1, size=size)
        x, y = (torch.from_numpy(images) / 127.5 - 1 for images in (a, b))
        if size < 32:
            x, y = (torch.nn.functional.interpolate(images, (64, 64), mode="bilinear") for images in (x, y))
        with torch.no_grad():
            expected = by_definition(net, features, x, y).numpy()
        found = measure(a, b)
        assert expected.min() > 1e-4
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(measure(a, a), 0)
        np.testing.assert_allclose(measure(b, a), found, rtol=1e-6)


def test_without_weights_the_features_of_the_scores_are_compared() -> None:
    measure = open_perceptual(None, TINY, CPU)
    a, b = blobs(40, 0), blobs(40, 1)
    assert measure.label == "tiny_distance"
    np.testing.assert_allclose(measure(a, b), np.linalg.norm(tiny_features(a) - tiny_features(b), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(measure(a, a), 0)


@pytest.mark.parametrize(("net", "file"), [("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")])
def test_weights_that_are_missing_or_others_are_told(
    net: Any, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing: the distance in features stands in, under its own name. Others: an error."""
    assert open_perceptual(LpipsSettings(net=net, weights=tmp_path / file), TINY, CPU).label == "tiny_distance"
    printed = capsys.readouterr().err
    for part in (str(tmp_path / file), f"https://download.pytorch.org/models/{file}", "tiny_distance stands in"):
        assert part in printed
    (tmp_path / file).write_bytes(b"half a download")
    with pytest.raises(UserError, match=rf"not {file} \(sha256 [0-9a-f]{{8}}, not {file[-12:-4]}\)"):
        open_perceptual(LpipsSettings(net=net, weights=tmp_path / file), TINY, CPU)


def test_a_weights_file_with_the_right_digits_runs_nothing(
    tmp_path: Path, evil: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight digits can be forged."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(evil)
    monkeypatch.setitem(perceptual.WEIGHTS, "alex", f"forged-{sha256_file(weights)[:8]}.pth")
    with pytest.raises(UserError, match=r"weights\.pth: "):
        open_perceptual(LpipsSettings(net="alex", weights=weights), TINY, CPU)
