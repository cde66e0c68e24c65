"""The verdicts: calm when nothing changed, awake when something did, on scores that torch-fidelity computed."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from flows.nightly.drift import (
    BETTER,
    FALSE_ALARM,
    FEWEST,
    Verdict,
    confirmed,
    judge,
    new_band,
    worst,
)
from tests.evaluation.tiny import blobs, tiny_features

IMAGES, DRAWS, NIGHTS, CAMPAIGNS = 48, 200, 20, 150
Draws = dict[str, NDArray[np.float64]]


def scores_of(features: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, float]:
    """The judged scores, by torch-fidelity's own functions."""
    a, b = torch.from_numpy(features), torch.from_numpy(reference)
    kid = kid_features_to_metric(
        a, b, kid_subsets=5, kid_subset_size=24, kid_kernel="poly", kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1, rng_seed=2020, verbose=False,
    )  # fmt: skip
    fid = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    prc = prc_features_to_metric(a, b, prc_neighborhood=3, prc_batch_size=1000, save_cpu_ram=False, verbose=False)
    return {
        "kid": kid["kernel_inception_distance_mean"],
        "frechet": fid["frechet_inception_distance"],
        "precision": prc["precision"],
        "recall": prc["recall"],
    }


def drawn(count: int, shift: float = 0.0) -> Draws:
    """Scores of `count` independent sets of images against one reference; `shift` brightens them, in levels."""
    reference = tiny_features(blobs(IMAGES, seed=1))
    rows = []
    for i in range(count):
        images = blobs(IMAGES, seed=1000 + i + int(shift * 100_000))
        bright = np.clip(images + shift, 0, 255).astype(np.uint8)
        rows.append(scores_of(tiny_features(bright), reference))
    return {name: np.array([row[name] for row in rows]) for name in BETTER}


@pytest.fixture(scope="module")
def draws() -> Draws:
    """Independent nights of a model that does not change."""
    return drawn(DRAWS)


def verdict_of(now: dict[str, float], history: Draws) -> Verdict:
    """All scores of a set together."""
    bands = {name: new_band(list(history[name]), IMAGES, len(BETTER)) for name in BETTER}
    return worst(judge(now[name], bands[name], better) for name, better in BETTER.items())


def at(draws: Draws, index: int) -> dict[str, float]:
    return {name: float(values[index]) for name, values in draws.items()}


def campaign(draws: Draws, first: int, generator: np.random.Generator) -> list[Verdict]:
    """Twenty nights, the first with `first` repeats; each adds its own scores to the history of the next."""
    order = generator.choice(DRAWS, first + 2 * NIGHTS, replace=False)
    verdicts = []
    for night in range(first, first + NIGHTS):
        history = {name: values[order[:night]] for name, values in draws.items()}
        verdict = verdict_of(at(draws, order[night]), history)
        if verdict in ("regressed", "improved"):
            verdict = confirmed(verdict, verdict_of(at(draws, order[night + NIGHTS]), history))
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize("first", [FEWEST, 8])
def test_undrifted_nights_are_called_regressed_as_rarely_as_stated(draws: Draws, first: int) -> None:
    """150 times twenty nights whose noise is that of real scores, skewed as KID is near 0."""
    generator = np.random.Generator(np.random.PCG64(first))
    verdicts = [campaign(draws, first, generator) for _ in range(CAMPAIGNS)]
    alarms = sum(verdict == "regressed" for nights in verdicts for verdict in nights)
    rate = alarms / (CAMPAIGNS * NIGHTS)
    print(f"{rate:.5f} false alarms a night, stated {FALSE_ALARM}; from {first} repeats")
    assert rate <= FALSE_ALARM
    assert sum(verdict == "same" for nights in verdicts for verdict in nights) > 0.9 * CAMPAIGNS * NIGHTS


@pytest.mark.parametrize(("repeats", "shift"), [(5, 40.0), (20, 20.0)])
def test_brighter_images_are_found(draws: Draws, repeats: int, shift: float) -> None:
    changed = drawn(20, shift)
    history = {name: values[:repeats] for name, values in draws.items()}
    verdicts = [verdict_of(at(changed, i), history) for i in range(20)]
    nights = [confirmed(a, b) for a, b in zip(verdicts[::2], verdicts[1::2], strict=True)]
    print(f"{nights.count('regressed')} of 10 nights with {shift:g} of 255 brighter images, {repeats} repeats")
    assert nights.count("regressed") >= 9


def test_the_alarm_band_holds_normal_scores_exactly_as_often_as_stated() -> None:
    generator = np.random.Generator(np.random.PCG64(5))
    values = generator.normal(0.4, 0.02, (20_000, 6))
    outside = 0
    for *repeats, now in values:
        outside += judge(now, new_band(repeats, 10**6, tests=1), -1) == "regressed"
    assert outside / 20_000 == pytest.approx(FALSE_ALARM, abs=4 * math.sqrt(FALSE_ALARM / 20_000))


def test_verdicts_of_a_score() -> None:
    band = new_band([0.40, 0.41, 0.39, 0.40, 0.42, 0.38], 10**6, 4)
    assert band is not None
    assert judge(0.40, band, -1) == "same"
    assert judge(0.40 + 1.1 * band.width, band, -1) == "regressed"
    assert judge(0.40 - 1.1 * band.width, band, -1) == "improved"
    assert judge(0.40 - 1.1 * band.width, band, 1) == "regressed"
    assert judge(None, band, -1) == judge(math.nan, band, -1) == "inconclusive"
    assert judge(9.0, new_band([0.1, 0.11, 0.12], 64, 1), -1) == "inconclusive"


def test_the_worst_verdict_counts_and_an_alarm_needs_a_second_one() -> None:
    assert worst(["same", "improved", "same"]) == "improved"
    assert worst(["improved", "inconclusive", "regressed"]) == "regressed"
    assert worst([]) == "inconclusive"
    assert confirmed("regressed", "regressed") == "regressed"
    assert confirmed("regressed", "same") == confirmed("improved", "regressed") == "inconclusive"
