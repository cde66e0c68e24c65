"""Scores of inpainting and de-occlusion against the true images, as tables and one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cspipe.report.results import Interval, PairedScores, VariantResult

WORDS = {"input": "input as it is", "mean": "mean of the training images", "nearest": "nearest training image"}
"""Descriptions of the baselines by their names in metrics files."""
MEASURES = {"psnr": "PSNR, dB ↑", "ssim": "SSIM ↑", "l1": "L1, of 255 ↓"}
"""Column heads of the measures that every task has; the perceptual distance follows under its own name."""
DECIMALS = {"psnr": 2, "ssim": 3, "l1": 2}
RESULT, ALL, PSNR = "result", "all", "psnr"


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first column names the row."""

    header: list[str]
    rows: list[list[str]]


def compared(results: Sequence[VariantResult]) -> dict[str, PairedScores]:
    """Return scores against the truth by row: the baselines, then the variants that have a truth; empty if none has."""
    with_truth = [result for result in results if result.paired is not None]
    rows: dict[str, PairedScores] = {}
    for result in with_truth[:1]:  # the baselines see the same inputs, whatever the variant
        assert result.paired is not None
        rows |= {WORDS.get(name, name): scores for name, scores in result.paired.items() if name != RESULT}
    return rows | {result.name: result.paired[RESULT] for result in with_truth if result.paired is not None}


def measures_table(results: Sequence[VariantResult]) -> Table | None:
    """Tabulate all measures over all families, with their 95 % intervals; None if no variant has a truth."""
    rows = compared(results)
    if not rows:
        return None
    names = list(next(iter(rows.values()))[ALL])
    header = ["", *(MEASURES.get(name, f"{name.replace('_', ' ')} ↓") for name in names)]
    return Table(
        header, [[row, *(interval(scores[ALL][name], name) for name in names)] for row, scores in rows.items()]
    )


def families_table(results: Sequence[VariantResult]) -> Table | None:
    """Tabulate PSNR by family; None if there is no truth, or only one family."""
    rows = compared(results)
    families = [name for name in next(iter(rows.values()), {}) if name != ALL]
    if not families:
        return None
    cells = [[row, *(interval(scores[family][PSNR], PSNR) for family in families)] for row, scores in rows.items()]
    return Table(["PSNR, dB ↑", *families], cells)


def paired_verdict(results: Sequence[VariantResult]) -> str | None:
    """Say which variant is nearest to the truth, and how the best baseline scores; None if no variant has a truth."""
    rows = {name: scores[ALL][PSNR] for name, scores in compared(results).items()}
    if not rows:
        return None
    names = {result.name for result in results}
    best = max((name for name in rows if name in names), key=lambda name: rows[name].mean)
    rival = max((name for name in rows if name not in names), key=lambda name: rows[name].mean)
    above, below = rows[best].low > rows[rival].high, rows[best].high < rows[rival].low
    ahead = "above" if above else "below" if below else "not clearly apart from"
    return (
        f"Nearest to the truth is {best}: PSNR {interval(rows[best], PSNR)} dB, {ahead} the best of what costs nothing "
        f"({rival}: {interval(rows[rival], PSNR)})."
    )


def interval(value: Interval, measure: str) -> str:
    """Format as '24.31 [24.10, 24.52]', with three significant digits for a measure that is not in DECIMALS."""
    digits = DECIMALS.get(measure, max(0, 2 - math.floor(math.log10(abs(value.mean) or 1))))
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
