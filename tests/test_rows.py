"""The rows of the table of speeds: that they are made, not what they say."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import rows_nets, rows_ranks

KEYS = {"work", "ours", "peer", "peer_name", "ratio", "goal", "unit", "runs"}


@pytest.mark.slow
@pytest.mark.parametrize("row", [*rows_nets.ROWS, *rows_ranks.ROWS], ids=lambda row: row.__name__)
def test_row_is_made(row: Callable[[float], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEWEST", "POINTS", "BATCH"):
        monkeypatch.setattr(rows_nets, name, 1)
    monkeypatch.setattr(rows_ranks, "FEWEST", 1)
    made = row(0.0)
    assert made.keys() == KEYS
    assert made["ratio"] == pytest.approx(made["ours"] / made["peer"])
    assert made["runs"] >= 1
