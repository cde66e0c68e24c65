"""Scores of pairs against closed forms and a plain SSIM written out here, and the intervals of their means."""

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cspipe.evaluation.paired import bootstrap, l1, paired_scores, psnr, ssim
from tests.evaluation.tiny import blobs

Images = NDArray[np.uint8]
A, B = blobs(6, 0), blobs(6, 1)


class Doubled:
    """A stand-in distance: twice l1."""

    label = "lpips_alex"

    def __call__(self, a: Images, b: Images) -> NDArray[np.float64]:
        return 2 * l1(a, b)


def plain_ssim(x: NDArray[np.float64], y: NDArray[np.float64], side: int) -> float:
    """SSIM of two planes (H, W) by its definition, window by window."""
    places = np.arange(side) - side // 2
    weights = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - side + 1):
        for left in range(x.shape[1] - side + 1):
            p, q = (plane[top : top + side, left : left + side] for plane in (x, y))
            mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
            var_p, var_q = (weights * (p - mean_p) ** 2).sum(), (weights * (q - mean_q) ** 2).sum()
            covariance = (weights * (p - mean_p) * (q - mean_q)).sum()
            likeness = (2 * mean_p * mean_q + 6.5025) * (2 * covariance + 58.5225)
            values.append(likeness / ((mean_p**2 + mean_q**2 + 6.5025) * (var_p + var_q + 58.5225)))
    return float(np.mean(values))


@pytest.mark.parametrize(("size", "side"), [(16, 11), (11, 11), (10, 9), (8, 7), (2, 1), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_its_definition(size: int, side: int, channels: int) -> None:
    rng = np.random.default_rng(size)
    a, b = rng.integers(0, 256, (2, 3, channels, size, size), np.uint8)
    expected = [
        np.mean([plain_ssim(p, q, side) for p, q in zip(x, y, strict=True)])
        for x, y in zip(a.astype(float), b.astype(float), strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-9)


@pytest.mark.parametrize("step", [1, 7, 100, 255])
def test_psnr_and_l1_of_a_constant_difference(step: int) -> None:
    a, b = np.zeros((2, 3, 4, 4), np.uint8), np.full((2, 3, 4, 4), step, np.uint8)
    np.testing.assert_allclose(psnr(a, b), 20 * math.log10(255 / step))
    np.testing.assert_allclose(l1(b, a), step)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.normal(3, 2, 40), np.arange(40)) for _ in range(150)]
    covered = np.mean([interval["low"] <= 3 <= interval["high"] for interval in intervals])
    assert 0.88 <= covered <= 0.99
    widths = [interval["high"] - interval["low"] for interval in intervals]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2 / math.sqrt(40), rel=0.1)


def test_results_of_one_image_count_once() -> None:
    """Copies of each value under its image's number make no narrower interval, as independent ones would."""
    values, images = np.random.default_rng(1).normal(size=20), np.arange(20)
    once = bootstrap(values, images)
    copies = bootstrap(values.repeat(7), images.repeat(7))
    assert (copies["mean"], copies["low"], copies["high"]) == pytest.approx((once["mean"], once["low"], once["high"]))
    independent = bootstrap(values.repeat(7), np.arange(140))
    assert independent["high"] - independent["low"] < 0.6 * (once["high"] - once["low"])


def test_the_table_tells_families_apart() -> None:
    families = ["thin", "half", "thin", "half", "half", "thin"]
    table = paired_scores(A, B, np.arange(6), families, Doubled())
    assert json.loads(json.dumps(table)) == table
    assert list(table) == ["all", "half", "thin"]
    assert all(list(scores) == ["psnr", "ssim", "l1", "lpips_alex"] for scores in table.values())
    thin = np.array([0, 2, 5])
    assert table["thin"]["psnr"]["mean"] == pytest.approx(psnr(A, B)[thin].mean())
    assert table["all"]["lpips_alex"]["mean"] == pytest.approx(2 * table["all"]["l1"]["mean"])
    for scores in table.values():
        for interval in scores.values():
            assert interval["low"] <= interval["mean"] <= interval["high"]
