"""The verdict on each claim of a study: held, not held, or undecided at this scale, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from cspipe.report.numbers import significant
from cspipe.study.definition import BETTER, NEARER, Claim
from cspipe.study.results import Results
from cspipe.study.statistics import Interval, difference, equal_time, holm, p_value, speedup, spread

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided at this scale"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the numbers that decide it."""

    word: str
    numbers: str
    p: float | None = None
    """p value of a difference between two lines with more than one seed: how likely one as large is by chance."""


def sentence(claim: Claim, results: Results) -> str:
    """Return the claim with its verdict in bold and the numbers, as Markdown."""
    verdict = decide(claim, results)
    return f"{claim.text.rstrip('.')}: **{verdict.word}** ({verdict.numbers}{late_note(claim, results)})."


def late_note(claim: Claim, results: Results) -> str:
    """Return the note behind the numbers of a claim that was written after the runs; empty for others."""
    return "; written after the runs" if claim.text in results.late else ""


def decide(claim: Claim, results: Results) -> Verdict:
    """Decide a claim from the seeds that both lines have. A single seed has no spread and decides nothing."""
    seeds = _common_seeds(claim, results)
    if not seeds:
        return Verdict(UNDECIDED, f"no seed of both {claim.row} and {claim.than} has run")
    if claim.kind == "speedup":
        return _speedup(claim, results, seeds)
    if claim.kind == "equal-time":
        return _equal_time(claim, results, seeds)
    point, other = _points(claim, results)
    a, b = results.scores(claim.row, point, claim.score), results.scores(claim.than, other, claim.score)
    if BETTER[claim.score] == NEARER:  # of two biases the smaller is better, whatever their signs
        a, b = ({seed: abs(value) for seed, value in scores.items()} for scores in (a, b))
    where = "" if point is None else f" at {point} {results.study.axis}"
    beside = where if point == other else f"{where}, of the other at {other},"
    scores, others = [a[seed] for seed in seeds], [b[seed] for seed in seeds]
    return _compare(scores, others, f"{_minus(claim)}{beside}", claim.kind == "lower")


def count_decided(results: Results) -> tuple[int, int]:
    """Count the decided differences of a study's claims, and those of them that stay decided with Holm's correction."""
    verdicts = [decide(claim, results) for claim in results.study.claims]
    tested = [(verdict, verdict.p) for verdict in verdicts if verdict.p is not None]
    kept = holm([p for _, p in tested])
    decided = [keep for (verdict, _), keep in zip(tested, kept, strict=True) if verdict.word != UNDECIDED]
    return len(decided), sum(decided)


def in_words(found: Interval) -> str:
    """Format an interval, such as "-1.20 [-2.31, -0.40]"."""
    return f"{significant(found.mean)} [{significant(found.low)}, {significant(found.high)}]"


def _speedup(claim: Claim, results: Results, seeds: list[int]) -> Verdict:
    points = [point for point in results.points if point is not None]
    images = [float(next(iter(results.runs(claim.than, point).values()))[0].images) for point in points]
    curves, than = (_curves(line, claim, results, seeds) for line in (claim.row, claim.than))
    factor, bounds = speedup(images, curves, than, BETTER[claim.score] == "lower")
    word = UNDECIDED
    if len(seeds) > 1 and (bounds == len(seeds) or factor.high < claim.factor):
        word = NOT_HELD
    elif len(seeds) > 1 and factor.low > claim.factor:
        word = HELD
    numbers = (
        f"{claim.row} reaches the last {claim.score} of {claim.than} with {in_words(factor)} times fewer images, "
        f"{significant(claim.factor)} claimed{_over(seeds)}"
    )
    if bounds:
        numbers += f"; in {bounds} of them it never does, which counts as if with all images: a bound"
    return Verdict(word, numbers)


def _equal_time(claim: Claim, results: Results, seeds: list[int]) -> Verdict:
    curves, than = (_curves(line, claim, results, seeds) for line in (claim.row, claim.than))
    times, than_times = (_seconds(line, results, seeds) for line in (claim.row, claim.than))
    seconds, scores, others = equal_time(times, curves, than_times, than)
    if not difference(scores, others).known:
        return Verdict(UNDECIDED, f"{claim.row} and {claim.than} have no training time in common")
    what = f"{_minus(claim)} after {significant(seconds)} s of training"
    return _compare(scores, others, what, BETTER[claim.score] == "lower")


def _curves(line: str, claim: Claim, results: Results, seeds: list[int]) -> list[list[float]]:
    """Return the claim's score of a line at every point, for each seed."""
    return [[results.scores(line, point, claim.score)[seed] for point in results.points] for seed in seeds]


def _seconds(line: str, results: Results, seeds: list[int]) -> list[list[float]]:
    """Return the seconds of training of a line up to every point, for each seed; NaN where they are not recorded."""
    runs = [results.runs(line, point) for point in results.points]
    return [[nan if (took := run[seed][0].train_seconds) is None else took for run in runs] for seed in seeds]


def _common_seeds(claim: Claim, results: Results) -> list[int]:
    """Return the seeds of which both lines have the score, at the claim's point or at all points of a curve."""
    curve = claim.kind in ("speedup", "equal-time")
    point, other = _points(claim, results)
    places = [(claim.row, each) for each in (results.points if curve else [point])]
    places += [(claim.than, each) for each in (results.points if curve else [other])]
    known = [results.scores(line, each, claim.score) for line, each in places]
    return [seed for seed in results.study.seeds if all(seed in scores for scores in known)]


def _points(claim: Claim, results: Results) -> tuple[str | None, str | None]:
    """Return the points at which the claim's two lines are compared: that of `row`, that of `than`."""
    point = results.points[-1] if claim.point is None else claim.point
    return point, point if claim.than_point is None else claim.than_point


def _compare(scores: list[float], others: list[float], what: str, lower: bool) -> Verdict:
    """Decide if scores are lower (or higher) than others: by the interval, and by more than the others' own spread."""
    found, noise = difference(scores, others), spread(others)
    numbers = f"{what} is {in_words(found)}{_over(scores)}"
    if len(scores) < 2:
        return Verdict(UNDECIDED, numbers)
    p = p_value(scores, others)
    if found.may_be_zero:
        return Verdict(UNDECIDED, numbers, p)
    if abs(found.mean) <= noise:
        return Verdict(UNDECIDED, f"{numbers}, less than the {significant(noise)} between seeds of the latter", p)
    return Verdict(HELD if (found.high < 0) == lower else NOT_HELD, numbers, p)


def _minus(claim: Claim) -> str:
    name = f"|{claim.score}|" if BETTER[claim.score] == NEARER else claim.score
    return f"{name} of {claim.row} minus that of {claim.than}"


def _over(seeds: Sequence[object]) -> str:
    return f" over {len(seeds)} seeds" if len(seeds) > 1 else " with one seed, which has no spread"
