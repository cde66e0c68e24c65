"""The table of a finished run's scores, in the words and digits of the report's, with what changed since the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cspipe.report.numbers import DASH, kid, significant
from cspipe.report.paired import ALL, MEASURES, RESULT, WORDS, interval
from cspipe.report.results import Bracket, Metrics, PairedScores, Scores

KID = "KID x1000"
YARDSTICK = (
    "task", "families", "inputs_sha256", "masks_sha256", "samples_images", "reference_sha256", "reference_images",
    "extractor", "extractor_weights_sha256",
)  # fmt: skip
"""Entries of a metrics file's provenance that say what its scores are measured against."""


@dataclass(frozen=True)
class Score:
    """One cell: the number, and as people read it."""

    value: float
    text: str


def yardstick(text: str) -> dict[str, Any]:
    """What two metrics files must share for their scores to be compared: task, pictures, counts, extractor."""
    provenance: dict[str, Any] = json.loads(text)["provenance"][0]
    return {name: provenance.get(name) for name in YARDSTICK}


def score_rows(now: Mapping[str, Metrics], before: Mapping[str, Metrics]) -> list[dict[str, str]]:
    """A row per variant between real pictures and noise, with what costs nothing above them where there is a truth.

    A score that is not that of the record has its change behind it.
    """
    first = next(iter(now.values()), None)
    if first is None:
        return []
    best, worst = _bracket(first)
    rivals = first.paired[0] if first.paired else {}
    rows = {
        best[0]: best[1],
        **{WORDS.get(name, name): _paired(scores) for name, scores in rivals.items() if name != RESULT},
        **{name: _all(metrics) for name, metrics in now.items()},
        worst[0]: worst[1],
    }
    old = {name: _all(before[name]) for name in now if name in before}
    columns = list(_all(first))
    return [{"variant": name} | _cells(row, old.get(name, {}), columns) for name, row in rows.items()]


def about(now: Mapping[str, Metrics], before: Mapping[str, Metrics]) -> str:
    """What the scores are measured by, and what they are compared with."""
    facts = [metrics.provenance[0] for metrics in now.values()][:1]
    measured = [f"{fact.extractor} features, N = {fact.samples_images} samples" for fact in facts]
    compared = (
        "in brackets: change from the scores at its revision" if before.keys() & now.keys() else "no earlier record"
    )
    return "; ".join([*measured, compared])


def _cells(row: Mapping[str, Score], old: Mapping[str, Score], columns: list[str]) -> dict[str, str]:
    """The scores of a row; what changed stands behind them: two columns a score would not fit a terminal."""
    return {column: _cell(row[column], old.get(column)) if column in row else DASH for column in columns}


def _cell(now: Score, old: Score | None) -> str:
    change = significant(now.value - old.value) if old is not None else "0"
    sign = "" if change.startswith("-") else "+"
    return now.text if change == "0" else f"{now.text} ({sign}{change})"


def _scores(scores: Scores) -> dict[str, Score]:
    more = {"Frechet": scores.frechet, "precision": scores.precision, "recall": scores.recall}
    return {
        KID: Score(1000 * scores.kid, kid(scores.kid, scores.kid_std)),
        **{name: Score(value, significant(value)) for name, value in more.items()},
    }


def _all(metrics: Metrics) -> dict[str, Score]:
    """The scores of a variant: against the truth first, where there is one."""
    return (_paired(metrics.paired[0][RESULT]) if metrics.paired else {}) | _scores(metrics.scores)


def _paired(scores: PairedScores) -> dict[str, Score]:
    """Against the truth, over all families; the words of the report's table."""
    return {
        MEASURES.get(name, f"{name.replace('_', ' ')} ↓"): Score(value.mean, interval(value, name))
        for name, value in scores.get(ALL, {}).items()
    }


def _bracket(metrics: Metrics) -> list[tuple[str, dict[str, Score]]]:
    """As good as it gets, and as bad: named by which split is the reference."""
    bracket: Bracket = metrics.bracket
    reference = getattr(metrics.provenance[0], "reference", "train")
    real = "held-out real pictures" if reference == "train" else "real training pictures"
    ends = {
        real: (bracket.heldout_kid, bracket.heldout_frechet),
        "uniform noise": (bracket.noise_kid, bracket.noise_frechet),
    }
    return [
        (name, {KID: Score(1000 * value, kid(value)), "Frechet": Score(frechet, significant(frechet))})
        for name, (value, frechet) in ends.items()
    ]
