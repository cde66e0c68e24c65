"""The table of scores reads like the report's, and says what changed only where something can be compared."""

import json
from typing import Any

from cspipe.report.numbers import DASH
from cspipe.report.results import Metrics
from flows.scores import caption, score_rows
from tests.conftest import ROOT

Row = dict[str, str]
INTERVAL = {"mean": 24.312, "low": 24.104, "high": 24.523}


def metrics(kid: float = 0.415448, **changes: object) -> Metrics:
    """The demo's recorded scores, changed."""
    tree: dict[str, Any] = json.loads((ROOT / "metrics/cs-100.json").read_text())
    own = {"kid": kid, "kid_std": 0.0254111, "frechet": 192.922, "precision": 0.164062, "recall": 0.519531}
    bracket = {"heldout_kid": 0.000913894, "heldout_frechet": 43.3008, "noise_kid": 2.38891, "noise_frechet": 919.223}
    return Metrics.model_validate(tree | {"efflite0": own, "bracket": bracket} | changes)


def named(rows: list[Row]) -> dict[str, Row]:
    return {row["variant"]: row for row in rows}


def test_scores_with_a_record_say_what_changed() -> None:
    now, before = {"ddim-100": metrics(), "new": metrics()}, {"ddim-100": metrics(kid=0.42), "gone": metrics()}
    rows = named(score_rows(now, before))
    assert rows["ddim-100"]["KID x1000"].endswith(" (-4.55)")
    assert not any("(" in rows[name][score] for name, score in (("ddim-100", "Frechet"), ("new", "KID x1000")))
    assert "in brackets: change" in caption(now, before)


def test_a_score_that_is_no_number_has_no_change() -> None:
    now, before = {"ddim-100": metrics(kid=float("nan"))}, {"ddim-100": metrics()}
    assert "(" not in named(score_rows(now, before))["ddim-100"]["KID x1000"]


def test_a_task_is_scored_beside_what_costs_nothing() -> None:
    """The words and digits are those of the report's table."""
    pairs = {name: {"all": {"psnr": INTERVAL, "l1": INTERVAL}} for name in ("input", "result")}
    now, before = metrics(paired=[pairs]), metrics(paired=[{"result": {"all": {"psnr": INTERVAL | {"mean": 24}}}}])
    rows = score_rows({"ddim-10": now}, {"ddim-10": before})
    assert [row["variant"] for row in rows][1:3] == ["input as it is", "ddim-10"]
    assert list(rows[1])[1] == "PSNR, dB ↑"
    assert rows[1]["PSNR, dB ↑"] == "24.31 [24.10, 24.52]"
    assert rows[1]["KID x1000"] == DASH
    assert rows[2]["PSNR, dB ↑"].endswith(" (+0.312)")
    assert "(" not in rows[2]["L1, of 255 ↓"]
    assert rows[2]["KID x1000"] == "415.4 ± 25.4"
