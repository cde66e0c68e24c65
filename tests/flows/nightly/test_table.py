"""The table of a night as Prefect's page shows it."""

from __future__ import annotations

from cspipe.report.numbers import DASH
from flows.nightly.checks import Finding
from flows.nightly.drift import BETTER
from flows.reevaluate import Checked, table


def test_the_first_row_has_the_columns_of_all_since_the_page_shows_those_alone() -> None:
    then, bands = dict.fromkeys(BETTER, 0.4), dict.fromkeys(BETTER)
    found = Finding("cs-10", then, then, 8, 0, {}, [], now=dict.fromkeys(BETTER, 0.41), bands=bands)
    stopped = Checked("main@v1.0.0", "a" * 40, problem="not in S3")
    rows = table([Checked("main@v2.0.0", "b" * 40, variants=[found]), stopped])
    assert [row["model"] for row in rows] == ["main@v1.0.0", *["main@v2.0.0"] * (1 + len(BETTER))]
    assert [row["fresh seeds"] for row in rows] == [DASH, DASH, *[0.41] * len(BETTER)]
    assert all(list(row) == list(rows[0]) for row in rows)
