"""The figure docs/results/NAME.png: the main score along the points, by images and by seconds; or a panel per score."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cspipe.report.charts import SOFT, png, set_scale
from cspipe.study.definition import BETTER
from cspipe.study.results import Results
from cspipe.study.statistics import Interval, interval

LOG_RATIO = 5.0
"""Ratio of the largest to the smallest value from which on positive values have a log axis."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c2a", "#333333")
DASHES = ("-", "--", ":")
PER_ROW, PER_LEGEND_ROW = 3, 5
Curve = list[tuple[float, Interval]]


def figure(results: Results) -> bytes:
    """Draw the figure of a study as PNG; the same results give the same bytes."""
    if results.study.is_curve:
        return png(lambda drawn: _curves(drawn, results), 12, 5.4)
    rows = math.ceil(len(results.study.scores) / PER_ROW)
    high = 0.26 * len(results.points) * len(results.study.lines()) + 1
    return png(
        lambda drawn: _dots(drawn, results, rows), 3 + 2.9 * min(PER_ROW, len(results.study.scores)), rows * high
    )


def _curves(drawn: Figure, results: Results) -> None:
    """Draw the main score: left against images (or what the points are), right against the seconds that they take."""
    score = results.study.scores[0]
    left, right = drawn.subplots(1, 2, sharey=True)
    timed = "training" if len({cell.images for cell in results.cells}) > 1 else "sampling"
    by_point = {line: _along_points(results, line, score) for line in results.study.lines()}
    by_time = {line: _along_seconds(results, line, score, timed) for line in results.study.lines()}
    values = [v for curve in by_point.values() for _, found in curve for v in (found.low, found.high)]
    label = f"{score}, {BETTER[score]} is better"
    for axes, curves, x_label in (
        (left, by_point, results.study.axis),
        (right, by_time, f"seconds of {timed} (mean over seeds)"),
    ):
        set_scale(axes, "x", x_label, log=_spans_much(x for curve in curves.values() for x, _ in curve))
        set_scale(axes, "y", label, log=_spans_much(values))
        axes.tick_params(axis="y", labelleft=True)
        for number, (line, curve) in enumerate(curves.items()):
            _curve(axes, line, curve, number)
    handles, names = left.get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside upper left", ncols=PER_LEGEND_ROW)


def _curve(axes: Axes, line: str, curve: Curve, number: int) -> None:
    """Draw a band from low to high, the line of means on it, and a dot at each point."""
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
    xs, found = [x for x, _ in curve], [each for _, each in curve]
    axes.fill_between(xs, [each.low for each in found], [each.high for each in found], color=colour, alpha=0.14, lw=0)
    axes.plot(xs, [each.mean for each in found], color=colour, linestyle=dash, marker="o", label=line)


def _dots(drawn: Figure, results: Results, rows: int) -> None:
    """Draw one panel for each score: a dot and its interval for every line and point."""
    study = results.study
    names = [(line, point) for point in results.points for line in study.lines()]
    columns = min(PER_ROW, len(study.scores))
    panels = drawn.subplots(rows, columns, squeeze=False).flat
    for place, (score, axes) in enumerate(zip(study.scores, panels, strict=False)):
        set_scale(axes, "x", "")
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(title=f"{score} ({BETTER[score]} is better)", ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        labels = [line if point is None else f"{point}, {line}" for line, point in names]
        axes.set_yticks(range(len(names)), labels if place % columns == 0 else [""] * len(names))
        for row, (line, point) in enumerate(names):
            found = interval(list(results.scores(line, point, score).values()))
            colour = COLOURS[row % len(study.lines()) % len(COLOURS)]
            if found.known:
                axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2.5)
                axes.plot(found.mean, row, "o", color=colour)
            else:
                axes.text(0.02, row, "did not run", transform=axes.get_yaxis_transform(), va="center", color=SOFT)
    for axes in panels:
        axes.remove()


def _along_points(results: Results, line: str, score: str) -> Curve:
    """Return a line's score at each point that has run."""
    scores = [(float(point or 0), results.scores(line, point, score)) for point in results.points]
    return sorted(((x, interval(list(found.values()))) for x, found in scores if found), key=lambda place: place[0])


def _along_seconds(results: Results, line: str, score: str, timed: str) -> Curve:
    """Return a line's score at each point that has run, by the mean seconds of training, or sampling, there."""
    curve = []
    for point in results.points:
        runs = results.runs(line, point).values()
        seconds = [cell.train_seconds if timed == "training" else sampled.sample_seconds for cell, sampled in runs]
        known = [value for value in seconds if value is not None]
        found = results.scores(line, point, score)
        if known and found:
            curve.append((sum(known) / len(known), interval(list(found.values()))))
    return sorted(curve, key=lambda place: place[0])


def _spans_much(values: Iterable[float]) -> bool:
    known = [value for value in values if math.isfinite(value)] or [0.0]
    return min(known) > 0 and max(known) / min(known) >= LOG_RATIO
