"""LPIPS against its authors' package, on made-up weights, and the distance that stands in for it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import alexnet, vgg16

from cspipe.evaluation import perceptual
from cspipe.evaluation.extractors import find_extractor
from cspipe.evaluation.perceptual import TRUNKS, Perceptual, open_perceptual
from cspipe.evaluation.settings import LpipsSettings
from cspipe.ingest.images import Form
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.sources.avatars import Renderer, looks
from tests.evaluation.tiny import TINY, blobs, tiny_features

CPU = torch.device("cpu")
NETS = {"alex": alexnet, "vgg": vgg16}


def without_head(build: Any) -> Any:
    """The net with its fully connected layers, which nobody reads and which take most of the memory, made small."""
    net = build()
    net.classifier = torch.nn.Identity()
    return net


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Perceptual, Any]:
    """LPIPS of a net with random weights, and the authors' own of the same."""
    name: str = request.param
    torch.manual_seed(0)
    monkeypatch.setitem(perceptual.NETS, name, lambda: without_head(NETS[name]))
    net = perceptual.NETS[name]()
    weights = tmp_path / "weights.pth"
    torch.save(net.state_dict(), weights)
    trunk = replace(TRUNKS[name], file=f"made-up-{sha256_file(weights)[:8]}.pth")
    monkeypatch.setitem(perceptual.TRUNKS, name, trunk)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips

        authors = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    for part in (authors.net.slice1, authors.net.slice2, authors.net.slice3, authors.net.slice4, authors.net.slice5):
        part.load_state_dict({key: net.features.state_dict()[key] for key in part.state_dict()})
    return open_perceptual(LpipsSettings(net=name, weights=weights), TINY, CPU), authors


@pytest.mark.parametrize("opened", ["alex", "vgg"], indirect=True)
def test_lpips_is_that_of_its_authors(opened: tuple[Perceptual, Any], request: pytest.FixtureRequest) -> None:
    measure, authors = opened
    a, b = blobs(5, 0, size=48), blobs(5, 1, size=48)
    with torch.no_grad():
        expected = authors(torch.from_numpy(a) / 127.5 - 1, torch.from_numpy(b) / 127.5 - 1).flatten().numpy()
    found = measure(a, b)
    assert expected.min() > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found.dtype == np.float64
    assert measure.label == f"lpips_{request.node.callspec.params['opened']}"
    np.testing.assert_array_equal(measure(a, a), 0)
    np.testing.assert_allclose(measure(b, a), found, rtol=1e-6)


def test_progress_counts_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(perceptual, "BATCH", 3)
    open_perceptual(None, TINY, CPU, told.append)(blobs(7, 0), blobs(7, 1))
    assert told == [3, 3, 1]


@pytest.mark.parametrize("opened", ["alex"], indirect=True)
def test_pictures_of_every_size_have_a_distance(opened: tuple[Perceptual, Any]) -> None:
    measure, authors = opened
    a, b = blobs(3, 0, size=16), blobs(3, 1, size=16)
    x, y = (torch.nn.functional.interpolate(torch.from_numpy(p) / 127.5 - 1, (64, 64), mode="bilinear") for p in (a, b))
    with torch.no_grad():
        np.testing.assert_allclose(measure(a, b), authors(x, y).flatten().numpy(), rtol=1e-4)
    assert (measure(blobs(2, 0, size=32), blobs(2, 1, size=32)) > 0).all()


@pytest.mark.parametrize("opened", ["alex"], indirect=True)
def test_grey_is_seen_as_colour_and_batches_change_nothing(
    opened: tuple[Perceptual, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, _ = opened
    a, b = blobs(7, 0, channels=1, size=32), blobs(7, 1, channels=1, size=32)
    whole = measure(a, b)
    np.testing.assert_allclose(measure(a.repeat(3, 1), b.repeat(3, 1)), whole, rtol=1e-6)
    monkeypatch.setattr(perceptual, "BATCH", 3)
    np.testing.assert_allclose(measure(a, b), whole, rtol=1e-5)


def test_without_weights_the_features_of_the_scores_are_compared() -> None:
    measure = open_perceptual(None, TINY, CPU)
    a, b = blobs(40, 0), blobs(40, 1)
    assert measure.label == "tiny_distance"
    np.testing.assert_allclose(measure(a, b), np.linalg.norm(tiny_features(a) - tiny_features(b), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(measure(a, a), 0)


def test_the_packaged_extractor_finds_a_face_with_glasses_nearer_than_another_face() -> None:
    measure = open_perceptual(None, find_extractor("efficientnet-lite0", None), CPU)
    pairs = Renderer("open-peeps", looks("open-peeps", "glasses"), Form(64, 3, "center"))(range(12))
    clean, glasses = pairs[:, 0], pairs[:, 1]
    lighter, others = np.minimum(clean, 254) + 1, np.roll(clean, 1, 0)
    assert measure.label == "efflite0_distance"
    assert (measure(clean, lighter) < 1).all()
    assert 3 < measure(clean, glasses).mean() < 0.7 * measure(clean, others).mean()


@pytest.mark.parametrize(("net", "file"), [("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")])
def test_weights_that_are_missing_or_others_are_told(
    net: Any, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing: the distance in features stands in, under its own name. Others: an error."""
    assert open_perceptual(LpipsSettings(net=net, weights=tmp_path / file), TINY, CPU).label == "tiny_distance"
    told = capsys.readouterr().err
    for part in (str(tmp_path / file), f"https://download.pytorch.org/models/{file}", "tiny_distance stands in"):
        assert part in told
    (tmp_path / file).write_bytes(b"half a download")
    with pytest.raises(UserError, match=rf"not {file} \(sha256 [0-9a-f]{{8}}, not {file[-12:-4]}\)"):
        open_perceptual(LpipsSettings(net=net, weights=tmp_path / file), TINY, CPU)
