"""Numbers of a cell that are worked out, not read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cspipe.config.params import Params
from cspipe.study.collect import _path_flop, scores_of


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("plain", {}, 0),
        ("compensated", {"fade": 0}, 110),
        ("compensated", {"fade": 0.5, "share": 0.8}, 0.8 * 0.25 * 110),
        ("compensated", {"fade": 0, "gap": 3}, 110),
        ("scheduled_sampling", {"fade": 0, "gap": 3}, 300),
        ("scheduled_sampling", {"fade": 1.0, "gap": 3}, 150),
    ],
)
def test_path_of_a_method_costs_its_passes_for_its_share(
    params: Callable[..., Params], method: str, changes: dict, expected: float
) -> None:
    keys = {f"train.compensation.{key}": value for key, value in changes.items()}
    assert _path_flop(params({"train.method": method, **keys}), 100, 10) == pytest.approx(expected, abs=1)


def test_scores_are_found_in_all_sections_of_a_metrics_file() -> None:
    metrics = {
        "efflite0": {"frechet": 3.0, "kid_std": 1.0},
        "bracket": {"heldout_kid": 2.0},
        "provenance": [{"recall": 9.0}],
        "memorisation": {"nearest_ratio": 1.1},
        "truth": {"psnr": 20.0},
    }
    assert scores_of(metrics) == {"frechet": 3.0, "nearest_ratio": 1.1, "psnr": 20.0}
