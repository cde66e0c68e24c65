"""The scores as a text table for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence

from cspipe.report.numbers import DASH, kid, significant
from cspipe.report.paired import families_table, measures_table
from cspipe.report.results import Report

HEADER = ("variant", "KID x1000", "Frechet", "precision", "recall")


def text_table(report: Report) -> str:
    """Real pictures, the variants in the order of params, uniform noise; with a task, its scores against the truth."""
    bracket = report.bracket
    rows = [(report.real, kid(bracket.heldout_kid), significant(bracket.heldout_frechet), DASH, DASH)]
    for result in report.results:
        s = result.scores
        numbers = (significant(s.frechet), significant(s.precision), significant(s.recall))
        rows.append((result.name, kid(s.kid, s.kid_std), *numbers))
    rows.append(("uniform noise", kid(bracket.noise_kid), significant(bracket.noise_frechet), DASH, DASH))
    title = f"{report.params.evaluate.extractor} features, N = {report.provenance.samples_images} samples"
    lines = [title, *_aligned([HEADER, *rows])]
    for table in filter(None, [measures_table(report.results), families_table(report.results)]):
        lines += ["", *_aligned([table.header, *table.rows])]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, numbers to the right, two blanks between."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return lines
