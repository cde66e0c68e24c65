"""Numbers of a cell that are worked out, not read."""

from collections.abc import Callable

import pytest

from cspipe.config.params import Params
from cspipe.study.collect import _path_flop


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
