"""The table that a night shows."""

from __future__ import annotations

from flows.nightly.drift import Difference
from flows.nightly.recheck import Finding
from flows.nightly.registry import Model
from flows.reevaluate import Checked, table

SCORES: dict[str, float | None] = {"kid": 0.1, "frechet": 20.0}


def finding(variant: str, *problems: str) -> Finding:
    """A variant whose samples and scores are the recorded ones, or whose samples are not."""
    same = Difference(16, 1 if problems else 0, 0.5)
    return Finding(variant, SCORES, dict(SCORES), same, True, [], "unknown", problems=list(problems))


def test_what_drifted_stands_on_top() -> None:
    model = Model("main", "v1.0.0", "0" * 40, "models/main")
    lost = Checked([model], problem="models/main is missing in s3://bucket/dvc")
    rows = table([Checked([model], [finding("calm"), finding("moved", "same seeds give other samples")]), lost])
    assert [(row["variant"], row["check"]) for row in rows[:3]] == [
        ("moved", "same seeds"), ("", "restore"), ("calm", "same seeds"),
    ]  # fmt: skip
    assert {row["verdict"] for row in rows[2:]} == {"same"}
