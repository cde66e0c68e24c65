"""docs/results/NAME.md: what was asked, what came out, and what it cost. Made from the results alone."""

from __future__ import annotations

from collections.abc import Iterable

from cspipe.report.numbers import DASH, count, significant
from cspipe.runtime.wording import readable_seconds
from cspipe.study.claims import in_words, sentence
from cspipe.study.definition import BETTER, NEARER
from cspipe.study.results import Results
from cspipe.study.statistics import best_with_ties, interval

COSTS = ("parameters", "GFLOP/image", "images", "train s", "module s", "sample s")
FEW = 3
"""Seeds of which a resample is all of one seed more often than in 2.5 % of the draws."""


def page(results: Results) -> str:
    """The page as Markdown; the same results give the same text."""
    study = results.study
    parts = [
        f"# {results.name}",
        study.question,
        study.notice,
        "\n".join(f"- {sentence(claim, results)}" for claim in study.claims),
        f"![{study.scores[0]}]({results.name}.png)",
        study.discussion.strip(),
        "\n".join(table(results)),
        "\n".join(f"- {line}" for line in notes(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(results: Results) -> list[str]:
    """Lines of the table: one per line of the study and point, scores with intervals, then costs."""
    study = results.study
    pointed = [study.axis] if study.points else []
    heads = ["", *pointed, *(f"{score} {_arrow(score)}" for score in study.scores), *COSTS]
    aligned = ["---", *("---:" for _ in heads[1:])]
    rows = [heads, aligned]
    for point in results.points:
        bold = {score: _best(results, point, score) for score in study.scores}
        for line in study.lines():
            scores = [_scores(results, line, point, score, line in bold[score]) for score in study.scores]
            rows.append([line, *([point] if point else []), *scores, *_costs(results, line, point)])
    return [f"| {' | '.join(row)} |" for row in rows]


def notes(results: Results) -> list[str]:
    """What the numbers are of, and how they were made."""
    setting, study = results.setting, results.study
    seeds = ", ".join(map(str, study.seeds))
    command = f"uv run cspipe study {results.name} --jobs {setting.jobs}"
    inception = setting.extractor == "inception-v3-compat"
    features = setting.extractor if inception else f"{setting.extractor}, whose scores are not Inception FID"
    chance = f"it is their range, which leaves out 0 by chance alone in one case of {2 ** (len(study.seeds) - 1)}"
    few = f"; of so few seeds {chance}" if len(study.seeds) <= FEW else ""
    lines = [
        f"Scores: mean over seeds {seeds} and its 95 % bootstrap interval{few}; **bold**: the best at its point, and "
        "all that tie with it (paired bootstrap over seeds).",
        f"N = {setting.images:,} of each side of a comparison; features of {features}.",
        f"Data: {setting.data}.",
        "GFLOP/image: forward and backward pass of the main net for an image in training, with what the "
        "path of its method adds on average. Seconds: mean over seeds, of training, of fitting the "
        "module that the samples need, and of drawing all samples of a cell.",
        f"Command: `{command}`, commit {setting.commit[:12]}, {readable_seconds(setting.wall_seconds)} of wall-clock.",
        f"Machine: {setting.processor}, {setting.cores} cores, {setting.jobs} cells at a time; "
        f"python {setting.python}, torch {setting.torch}.",
    ]
    failed = [f"`{cell.experiment}` ({cell.failed})" for cell in results.cells if cell.failed is not None]
    return [*lines, *([f"**Failed**: {'; '.join(failed)}."] if failed else [])]


def _best(results: Results, point: str | None, score: str) -> set[str]:
    """Lines with the best score at a point, or a tie with it, among those that have every seed that any of them has."""
    found = {line: results.scores(line, point, score) for line in results.study.lines()}
    seeds = {seed for scores in found.values() for seed in scores}
    whole = {line: [scores[seed] for seed in sorted(seeds)] for line, scores in found.items() if set(scores) == seeds}
    if not seeds or not whole:
        return set()
    ranked = [[abs(value) if BETTER[score] == NEARER else value for value in values] for values in whole.values()]
    best = best_with_ties(ranked, BETTER[score] != "higher")
    return {line for line, wins in zip(whole, best, strict=True) if wins}


def _scores(results: Results, line: str, point: str | None, score: str, bold: bool) -> str:
    values = results.scores(line, point, score)
    found = interval(list(values.values()))
    if not found.known:
        return DASH
    text = in_words(found) if len(values) > 1 else significant(found.mean)
    missing = len(results.study.seeds) - len(values)
    return (f"**{text}**" if bold else text) + (f" ({missing} missing)" if missing else "")


def _costs(results: Results, line: str, point: str | None) -> list[str]:
    runs = list(results.runs(line, point).values())
    if not runs:
        return [DASH] * len(COSTS)
    cell = runs[0][0]
    return [
        count(cell.parameters),
        significant(cell.flop / 1e9),
        count(cell.images),
        _mean(cell.train_seconds for cell, _ in runs),
        _mean(sampled.compensate_seconds for _, sampled in runs),
        _mean(sampled.sample_seconds for _, sampled in runs),
    ]


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return significant(sum(known) / len(known)) if known else DASH


def _arrow(score: str) -> str:
    arrows = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}", NEARER: "\N{RIGHTWARDS ARROW} 0"}
    return arrows[BETTER[score]]
