"""Writing of docs/results: NAME.json of each study, its page and figure, and README.md with the claims of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cspipe.report.numbers import DASH, count, significant
from cspipe.runtime.files import whole_file
from cspipe.runtime.wording import readable_seconds
from cspipe.study.claims import count_decided, decide, in_words, late_note, sentence
from cspipe.study.definition import BETTER, NEARER
from cspipe.study.figure import figure
from cspipe.study.names import STUDIES
from cspipe.study.results import RESULTS, Results, Setting, read_results
from cspipe.study.statistics import best_with_ties, interval

TITLE = "# Does compensation sampling do what the paper says?\n"
FINDINGS = STUDIES / "findings.md"
"""File with what all studies together have found, in a few lines; written by hand, after the runs."""
INTRODUCTION = """\
The claims of arXiv 2312.06285, and what was measured here. A verdict is about the scale that was run: small images,
small nets, a few seeds, features that are not Inception's. **Undecided** means that the interval holds both answers, or
that the difference is smaller than the spread between seeds. Claims were committed before their runs. Intervals are not
corrected for the number of claims: {decided} differences are decided, and {kept} of them with Holm's correction within
their study too. Each study is one command; its page has the table with intervals, the cost of each line, the commits
and the machine. [What misled us](../misled.md) tells how an earlier verdict went wrong.
"""
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}", NEARER: "\N{RIGHTWARDS ARROW} 0"}
BAR = r"\|"
"""Escaped vertical bar in a cell of a Markdown table, such as those of |exposure_50|."""
COSTS = ("parameters", "GFLOP/image", "images", "train s", "C s", "sample s")


def write_pages(results: Results, root: Path) -> Path:
    """Write docs/results/NAME.json, NAME.md, NAME.png and the README.md of all studies; return the study's page.

    Raises UserError if the results of another study are damaged.
    """
    files = {"json": results.to_json().encode(), "md": page(results).encode(), "png": figure(results)}
    for suffix, content in files.items():
        with whole_file(root / RESULTS / f"{results.name}.{suffix}") as beside:
            beside.write_bytes(content)
    studies = [read_results(path) for path in sorted((root / RESULTS).glob("*.json"))]
    with whole_file(root / RESULTS / "README.md") as beside:
        beside.write_text(overview(studies, (root / FINDINGS).read_text(encoding="utf-8")), encoding="utf-8")
    return root / RESULTS / f"{results.name}.md"


def page(results: Results) -> str:
    """Return the page of a study as Markdown; the same results give the same text."""
    study = results.study
    parts = [
        f"# {results.name}",
        study.question,
        "\n".join(f"- {sentence(claim, results)}" for claim in study.claims),
        f"![{_seen(results)}]({results.name}.png)",
        study.discussion.strip(),
        "\n".join(table(results)),
        "\n".join(f"- {line}" for line in notes(results)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _seen(results: Results) -> str:
    """Describe what the figure shows, as its alternative text."""
    study = results.study
    shown = f"{study.scores[0]} against {study.axis} and against seconds" if study.is_curve else ", ".join(study.scores)
    return f"{shown}, with 95 % intervals: {', '.join(study.lines())}"


def table(results: Results) -> list[str]:
    """Return the rows of the Markdown table: one per line of the study and point, scores with intervals, then costs."""
    study = results.study
    pointed = [study.axis] if study.points else []
    heads = ["", *pointed, *(f"{score} {ARROWS[BETTER[score]]}" for score in study.scores), *COSTS]
    aligned = ["---", *("---:" for _ in heads[1:])]
    rows = [heads, aligned]
    for point in results.points:
        bold = {score: _best(results, point, score) for score in study.scores}
        for line in study.lines():
            scores = [_scores(results, line, point, score, line in bold[score]) for score in study.scores]
            rows.append([line, *([point] if point else []), *scores, *_costs(results, line, point)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _compared(setting: Setting) -> str:
    """Say how many images are on each side of a comparison."""
    reference = setting.reference_images or setting.images
    if reference == setting.images:
        return f"{setting.images:,} of each side of a comparison"
    return f"{setting.images:,} samples, compared with {reference:,} images"


def notes(results: Results) -> list[str]:
    """Return notes on what was measured, and how: scores, data, command, claims, machine, failed cells."""
    setting, study = results.setting, results.study
    seeds = ", ".join(map(str, study.seeds))
    inception = setting.extractor == "inception-v3-compat"
    features = setting.extractor if inception else f"{setting.extractor}, whose scores are not Inception FID"
    lines = [
        f"Scores: mean over seeds {seeds} and its 95 % interval (Student's t); **bold**: the best at its point, and "
        "all whose paired difference from it may be 0. A verdict needs the interval on one side of 0, and a mean "
        "difference above the standard deviation between seeds of the line compared with.",
        f"N = {_compared(setting)}; features of {features}.",
        f"Data: {setting.data}.",
        "GFLOP/image: forward and backward pass of the main net for an image in training, with what the "
        "path of its method adds on average. Seconds: mean over seeds, of training, of fitting the net C "
        "that the samples need, and of drawing all samples of a cell.",
        f"Command: `{_command(results)}`, commit {setting.commit[:12]}, "
        f"{readable_seconds(setting.wall_seconds)} of wall-clock.",
        *([_on_claims(results)] if study.claims else []),
        f"Machine: {setting.processor}, {setting.cores} cores, {setting.jobs} cells at a time; "
        f"python {setting.python}, torch {setting.torch}.",
    ]
    failed = [f"`{cell.experiment}` ({cell.failed})" for cell in results.cells if cell.failed is not None]
    return [*lines, *([f"**Failed**: {'; '.join(failed)}."] if failed else [])]


def _on_claims(results: Results) -> str:
    decided, kept = count_decided(results)
    line = f"Claims: commit {results.claimed[:12]}, {'some of them after' if results.late else 'before'} the runs."
    if not decided:
        return line
    return f"{line} With Holm's correction for their number, {kept} of {decided} decided differences stay so."


def _best(results: Results, point: str | None, score: str) -> set[str]:
    """Return lines with the best score at a point, or a tie with it, among those with every seed that any line has."""
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


def overview(studies: Sequence[Results], findings: str) -> str:
    """Return README.md with the claims of all studies, the findings first; studies without claims are left out."""
    claiming = [each for each in studies if each.study.claims]
    decided, kept = (sum(counts) for counts in zip((0, 0), *map(count_decided, claiming), strict=True))
    return "\n".join([TITLE, findings, INTRODUCTION.format(decided=decided, kept=kept), *map(_claims, claiming)])


def _claims(results: Results) -> str:
    """Return the section of a study in README.md: its question, command and data, then a row for each claim."""
    study = results.study
    decided = [(claim.text, decide(claim, results), late_note(claim, results)) for claim in study.claims]
    rows = [(text, f"**{verdict.word}**", f"{verdict.numbers}{late}") for text, verdict, late in decided]
    lines = [
        f"## {results.name}",
        "",
        f"[{study.question}]({results.name}.md) `{_command(results)}`; {results.setting.data}",
        "",
        "| claim | verdict | numbers |",
        "|---|---|---|",
        *(f"| {' | '.join(cell.replace('|', BAR) for cell in row)} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def _command(results: Results) -> str:
    return f"uv run cspipe study {results.name} --jobs {results.setting.jobs}"
