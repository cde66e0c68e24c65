"""The table of a finished run's scores, in the words and digits of the report, with changes from recorded scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from cspipe.report.numbers import DASH, kid, significant
from cspipe.report.paired import ALL, MEASURES, RESULT, WORDS, interval
from cspipe.report.results import Metrics, PairedScores

KID = "KID x1000"
YARDSTICK = (
    "task", "families", "inputs_sha256", "masks_sha256", "samples_images", "reference_sha256", "reference_images",
    "extractor", "extractor_weights_sha256",
)  # fmt: skip
"""Keys of a metrics file's provenance that determine whether its scores can be compared with another file's."""
Row = dict[str, tuple[float, str]]
"""A table row, by column: the score as a number and as text."""


def comparable_facts(text: str) -> dict[str, Any]:
    """Return the facts that two metrics files must share for their scores to be compared (see YARDSTICK)."""
    provenance: dict[str, Any] = json.loads(text)["provenance"][0]
    return {name: provenance.get(name) for name in YARDSTICK}


def score_rows(now: Mapping[str, Metrics], before: Mapping[str, Metrics]) -> list[dict[str, str]]:
    """Return a row per variant, between one for real images and one for noise.

    For tasks with a ground truth, rows of trivial rivals (input, mean image, nearest image) stand above the variants.
    A score that differs from the recorded one is followed by its change: separate columns would not fit a terminal.
    """
    first = next(iter(now.values()), None)
    if first is None:
        return []
    reference = getattr(first.provenance[0], "reference", "train")
    real = "held-out real images" if reference == "train" else "real training images"
    rivals = first.paired[0] if first.paired else {}
    rows = {
        real: _distances(first.bracket.heldout_kid, first.bracket.heldout_frechet),
        **{WORDS.get(name, name): _paired(scores) for name, scores in rivals.items() if name != RESULT},
        **{name: _row(metrics) for name, metrics in now.items()},
        "uniform noise": _distances(first.bracket.noise_kid, first.bracket.noise_frechet),
    }
    old = {name: _row(before[name]) for name in now if name in before}
    return [
        {"variant": name} | {column: _cell(row.get(column), old.get(name, {}).get(column)) for column in _row(first)}
        for name, row in rows.items()
    ]


def caption(now: Mapping[str, Metrics], before: Mapping[str, Metrics]) -> str:
    """Return the table's caption: what the scores are measured with, and whether they are compared with a record."""
    facts = [metrics.provenance[0] for metrics in now.values()][:1]
    measured = [f"{fact.extractor} features, N = {fact.samples_images} samples" for fact in facts]
    compared = before.keys() & now.keys()
    return "; ".join(
        [*measured, "in brackets: change from the scores at its revision" if compared else "no earlier record"]
    )


def _cell(now: tuple[float, str] | None, old: tuple[float, str] | None) -> str:
    if now is None:
        return DASH
    change = significant(now[0] - old[0]) if old is not None and isfinite(now[0] - old[0]) else "0"
    sign = "" if change.startswith("-") else "+"
    return now[1] if change == "0" else f"{now[1]} ({sign}{change})"


def _row(metrics: Metrics) -> Row:
    """Return the scores of a variant; those against the ground truth, if the task has one, come first."""
    scores = metrics.scores
    row = (_paired(metrics.paired[0][RESULT]) if metrics.paired else {}) | _distances(scores.kid, scores.frechet)
    row[KID] = (1000 * scores.kid, kid(scores.kid, scores.kid_std))
    shares = {"precision": scores.precision, "recall": scores.recall}
    return row | {name: (value, significant(value)) for name, value in shares.items()}


def _distances(kernel: float, frechet: float) -> Row:
    return {KID: (1000 * kernel, kid(kernel)), "Frechet": (frechet, significant(frechet))}


def _paired(scores: PairedScores) -> Row:
    """Return the scores against the ground truth, over all families, named as in the report's table."""
    return {
        MEASURES.get(name, f"{name.replace('_', ' ')} ↓"): (value.mean, interval(value, name))
        for name, value in scores.get(ALL, {}).items()
    }
