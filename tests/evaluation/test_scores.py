"""Scores against closed forms written out here, and the cache of features."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from cspipe.evaluation import scores
from cspipe.evaluation.image_sets import ImageSet, NoiseSource
from cspipe.evaluation.scores import Measure, bracket, score
from cspipe.runtime.errors import UserError
from tests.evaluation.tiny import TINY, TinyNet, blobs, source_of, tiny_features

NewMeasure = Callable[..., Measure]
Features = NDArray[np.float64]


def set_of(images: NDArray[np.uint8]) -> ImageSet:
    return ImageSet(source_of(images), len(images))


def darker(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (images * 0.8).astype(np.uint8)


def kernel(x: Features, y: Features) -> Features:
    return (x @ y.T / x.shape[1] + 1) ** 3


def kid(x: Features, y: Features) -> float:
    """The unbiased estimate of MMD^2: means over pairs of different images."""

    def within(z: Features) -> float:
        return float(kernel(z, z)[~np.eye(len(z), dtype=bool)].mean())

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


def frechet(x: Features, y: Features) -> float:
    """||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))."""
    s1, s2 = np.cov(x.T), np.cov(y.T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real))


def covered(points: Features, centres: Features) -> float:
    """Share of points within some centre's ball, whose radius reaches that centre's third neighbour."""
    radii = [np.sort([np.linalg.norm(c - other) for other in centres])[3] for c in centres]
    hits = [any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii, strict=True)) for p in points]
    return float(np.mean(hits))


def inception_score(logits: Features) -> float:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))


def test_scores_are_the_published_formulas(new_measure: NewMeasure) -> None:
    generated, reference = darker(blobs(60, 0)), blobs(70, 1)
    found = score(set_of(generated), set_of(reference), new_measure(kid_subset_size=60))
    x, y = tiny_features(generated), tiny_features(reference)
    assert found["frechet"] == pytest.approx(frechet(x, y), rel=1e-4)
    assert found["precision"] == pytest.approx(covered(x, y))
    assert found["recall"] == pytest.approx(covered(y, x))
    assert 0 < found["recall"] < 1
    assert found["inception_score"] == pytest.approx(inception_score(tiny_features(generated, "logits")), rel=1e-5)
    every_pair = score(set_of(generated), set_of(reference[:60]), new_measure(kid_subset_size=60))
    assert every_pair["kid"] == pytest.approx(kid(x, y[:60]), rel=1e-3)


def test_each_image_passes_the_net_once_and_shared_sets_once_for_all_variants(new_measure: NewMeasure) -> None:
    reference, held_out, noise = set_of(blobs(40, 0)), set_of(blobs(30, 1)), ImageSet(NoiseSource(20, (3, 16, 16)))
    passes, results = [], []
    for variant in (blobs(25, 2), blobs(25, 3), blobs(25, 2)):
        before = TinyNet.seen
        scores = score(set_of(variant), reference, new_measure())
        results.append((scores, bracket(held_out, reference, noise, new_measure())))
        passes.append(TinyNet.seen - before)
    assert passes == [25 + 40 + 30 + 20, 25, 25]
    assert results[0] == results[2]
    assert results[0][0] != results[1][0]


@pytest.mark.parametrize("damage", ["evil", "cut"])
def test_damaged_features_are_named_computed_again_and_run_nothing(
    damage: str, new_measure: NewMeasure, evil: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    def compared() -> list[dict[str, float]]:
        sets = [set_of(blobs(20, seed)) for seed in range(4)]
        return [score(sets[0], sets[1], new_measure()), bracket(sets[2], sets[1], sets[3], new_measure())]

    expected, files = compared(), [*new_measure().cache.iterdir()]
    assert len(files) >= 3
    for file in files:
        file.write_bytes(evil if damage == "evil" else file.read_bytes()[:-1])
    assert compared() == expected
    told = capsys.readouterr().err
    assert all(str(file) in told for file in files)
    assert compared() == expected
    assert not capsys.readouterr().err


def test_the_cache_name_tells_whatever_features_depend_on(
    new_measure: NewMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = set_of(blobs(9, 0))
    measure = new_measure()
    others = [
        measure.cache_name(set_of(blobs(9, 1))),
        measure.cache_name(ImageSet(images.source, 8)),
        new_measure(batch=8).cache_name(images),
        new_measure(extractor=replace(TINY, sha256="1" * 64)).cache_name(images),
    ]
    for package in ("torch", "torch-fidelity"):
        with monkeypatch.context() as newer:
            newer.setattr(scores, "version", lambda name, package=package: "9" if name == package else version(name))
            others.append(measure.cache_name(images))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(scores, "device_name", lambda _: "cpu (x86_64, AVX1024)")
        others.append(measure.cache_name(images))
    assert len({measure.cache_name(images), *others}) == 8
    assert measure.cache_name(images) == new_measure().cache_name(set_of(blobs(9, 0)))


def test_too_few_images_are_refused(new_measure: NewMeasure) -> None:
    with pytest.raises(UserError, match=r"at least 4 images with 4, here 9 with 3.*params\.yaml"):
        score(set_of(blobs(9, 0)), set_of(blobs(3, 1)), new_measure())


def test_features_whose_writing_fails_leave_no_file(new_measure: NewMeasure, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, content: bytes) -> None:
        with file.open("wb") as opened:
            opened.write(content[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        score(set_of(blobs(9, 0)), set_of(blobs(9, 1)), new_measure())
    assert not [*new_measure().cache.iterdir()]
