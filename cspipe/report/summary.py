"""Sentences about the scores, and the scores as a text table.

Scores whose spreads overlap are a tie, never a win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cspipe.report.numbers import DASH, TIMES, kid, significant
from cspipe.report.paired import families_table, measures_table
from cspipe.report.results import Bracket, Columns, Report, Scores, VariantResult

HEADER = ("variant", "KID x1000", "Frechet", "precision", "recall")


def text_table(report: Report) -> str:
    """Format scores of real images, variants as in params, uniform noise; with a task, also those against the truth."""
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
    """Format rows as lines: first column to the left, numbers to the right, two blanks between."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return lines


def overlap(a: Scores, b: Scores) -> bool:
    """Whether KID +- spread of `a` and of `b` have a point in common (an unknown spread counts as none)."""
    gap = abs(a.kid - b.kid)
    return gap <= sum(0.0 if math.isnan(s.kid_std) else s.kid_std for s in (a, b))


def ranked_together(results: Sequence[VariantResult]) -> Sequence[VariantResult]:
    """Return the variants that draw whole images, or all variants if each one repaints."""
    return [r for r in results if r.settings.repaint is None] or results


def leaders(results: Sequence[VariantResult]) -> list[VariantResult]:
    """Return the variant with the least KID, then those that tie with it, in order of KID; empty if none has a KID.

    A variant that repaints keeps real pixels, and is ranked only if all do.
    """
    known = (r for r in ranked_together(results) if math.isfinite(r.scores.kid))
    ranked = sorted(known, key=lambda r: r.scores.kid)
    return [r for r in ranked if overlap(r.scores, ranked[0].scores)]


def verdict(results: Sequence[VariantResult], bracket: Bracket, real: str) -> str:
    """Say which variant is nearest to the reference, or which tie, and how noise and the images called `real` score."""
    results, first = ranked_together(results), leaders(results)
    ends = (
        f"where {real} score {kid(bracket.heldout_kid)} "
        f"and uniform noise scores {kid(bracket.noise_kid)} (KID {TIMES} 1000, lower is better)."
    )
    if not first:
        return "No variant has a KID, so none can be called nearest to the reference."
    score = _score(first[0])
    if len(results) == 1:
        return f"{first[0].name} scores KID {score}, {ends}"
    if len(first) == 1:
        return f"Of the variants, {first[0].name} is nearest to the reference: KID {score}, {ends}"
    who = "All variants" if len(first) == len(results) else _listed([r.name for r in first])
    scores = _listed([f"{_score(r)} ({r.name})" for r in first])
    return f"{who} tie: their KIDs, {scores}, overlap within their spreads, {ends}"


def module_effects(results: Sequence[VariantResult]) -> list[str]:
    """Return a sentence for each pair of variants that differ only in the correction by C."""
    sentences = []
    for corrected in results:
        for plain in results:
            if _twins(corrected, plain) and math.isfinite(corrected.scores.kid - plain.scores.kid):
                sentences.append(_effect(corrected, plain))
    return sentences


def module_helps(name: str, norms: Columns) -> list[str]:
    """Return a sentence on the steps at which the C called `name` reduces the error; none if that was not measured."""
    if not norms["t"]:
        return []
    left = list(zip(norms["error"], norms["t"], strict=True))
    (best, at_best), (worst, at_worst) = min(left), max(left)
    helping = sum(round(error, 3) < 1 for error, _ in left)  # .9996 is printed as 1.000
    helps = f"{name} helps at {helping} of {len(left)} steps t"
    ends = f"{significant(best)} at best (t = {at_best:g}), {significant(worst)} at worst (t = {at_worst:g})"
    return [f"{helps}: the error that it leaves is {ends}."]


def _twins(corrected: VariantResult, plain: VariantResult) -> bool:
    """Whether `plain` is `corrected` without its correction."""
    with_it, without = corrected.settings, plain.settings
    if with_it.correction is None or not with_it.correction.needs_compensator or without.correction is not None:
        return False
    other = {"correction", "reads"}
    return with_it.model_dump(exclude=other) == without.model_dump(exclude=other)


def _effect(corrected: VariantResult, plain: VariantResult) -> str:
    """Say how KID changes from the variant without the net C to the one with it."""
    what = f"With the net C ({corrected.name}) instead of without ({plain.name})"
    if overlap(corrected.scores, plain.scores):
        return f"{what}, KID is {_score(corrected)} instead of {_score(plain)}: a tie."
    verb = "falls" if corrected.scores.kid < plain.scores.kid else "rises"
    return f"{what}, KID {verb} from {_score(plain)} to {_score(corrected)}."


def _score(result: VariantResult) -> str:
    """Format the KID of a variant x 1000 with its spread."""
    return kid(result.scores.kid, result.scores.kid_std)


def _listed(items: Sequence[str]) -> str:
    """Join items as in 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
