"""docs/results/NAME.png: the main score along the points, against images and against seconds; or every score in a row.

Drawn as SVG and rendered with the font that comes with Pillow, so the same results give the same bytes.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from markupsafe import Markup
from PIL import ImageFont
from resvg_py import svg_to_bytes

from cspipe.report.axes import Axis, fit_axis, widened
from cspipe.report.numbers import compact
from cspipe.study.definition import BETTER
from cspipe.study.results import Results
from cspipe.study.statistics import Interval, interval
from cspipe.study.strokes import Stroke, band, circle, line, polyline, text

ZOOM = 2
PANEL, HEIGHT, GAP = 400, 300, 76
LEFT, TOP, BOTTOM, LEGEND = 70, 44, 56, 30
ROW_HEIGHT, DOT_PANEL, PER_ROW = 24, 210, 3
LOG_RATIO = 5.0
"""Positive values that span more than this stand on a log axis."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c2a", "#333333")
DASHES = ("", "7 4", "2 3")
INK, SOFT, GRID = "#1d1c1a", "#6a665f", "#e4e0d8"
Curve = list[tuple[float, Interval]]


def png(results: Results) -> bytes:
    """The figure of a study. Raises UserError if nothing of it has run."""
    svg = _curves(results) if results.study.is_curve else _dots(results)
    with tempfile.TemporaryDirectory() as folder:
        font = Path(folder) / "font.ttf"
        font.write_bytes(_font().font_bytes)
        return bytes(
            svg_to_bytes(
                svg_string=str(svg), zoom=ZOOM, background="white", skip_system_fonts=True,
                font_files=[str(font)], font_family=_font().getname()[0], sans_serif_family=_font().getname()[0],
            )
        )  # fmt: skip


def _curves(results: Results) -> Markup:
    """Left the main score against images (or what the points are), right against the seconds that they take."""
    score = results.study.scores[0]
    by_point = {name: _along_points(results, name, score) for name in results.study.lines()}
    by_time = {name: _along_seconds(results, name, score) for name in results.study.lines()}
    values = [v for curve in by_point.values() for _, found in curve for v in (found.low, found.high)]
    panels = ((by_point, results.study.axis), (by_time, f"seconds of {_timed(results)} (mean over seeds)"))
    width, legend = LEFT + 2 * PANEL + GAP + 20, _legend(list(by_point), LEFT, 20, LEFT + 2 * PANEL + GAP)
    top = TOP + legend[1]
    parts = [legend[0]]
    for place, (curves, label) in enumerate(panels):
        start = LEFT + place * (PANEL + GAP)
        x_axis = _axis([x for curve in curves.values() for x, _ in curve], start, start + PANEL, pad=12)
        y_axis = widened(_axis(values, top + HEIGHT, top))
        parts += [_frame(x_axis, y_axis, label, f"{score}, {BETTER[score]} is better", top)]
        parts += [_curve(curve, x_axis, y_axis, _stroke(n)) for n, curve in enumerate(curves.values())]
    return _svg(width, top + HEIGHT + BOTTOM, parts)


def _dots(results: Results) -> Markup:
    """One panel for each score: a dot and its interval for every line and point."""
    study = results.study
    names = [(line, point) for point in results.points for line in study.lines()]
    labels = [name if point is None else f"{point}, {name}" for name, point in names]
    left = 20 + max(_width(label, 13) for label in labels)
    columns, high = min(PER_ROW, len(study.scores)), len(names) * ROW_HEIGHT + 12
    parts = []
    for place, score in enumerate(study.scores):
        x0, y0 = left + place % PER_ROW * (DOT_PANEL + 30), 48 + place // PER_ROW * (high + 88)
        found = [interval(list(results.scores(name, point, score).values())) for name, point in names]
        axis = widened(_axis([v for f in found if f.known for v in (f.low, f.high)], x0, x0 + DOT_PANEL, log=False))
        parts.append(text(f"{score} ({BETTER[score]} is better)", x0, y0 - 14, "start", INK, 13))
        parts += [_upright(axis, tick, y0, high) for tick in _few(axis)]
        for row, (label, each) in enumerate(zip(labels, found, strict=True)):
            y = y0 + (row + 0.75) * ROW_HEIGHT
            if place % PER_ROW == 0:
                parts.append(text(label, x0 - 10, y + 4, "end", INK, 13))
            parts.append(_dot(each, axis, y, COLOURS[row % len(study.lines()) % len(COLOURS)]))
    rows = math.ceil(len(study.scores) / PER_ROW)
    return _svg(left + columns * (DOT_PANEL + 30), 48 + rows * (high + 88) - 40, parts)


def _along_points(results: Results, name: str, score: str) -> Curve:
    """A line's score at each point that has run."""
    scores = [(float(point or 0), results.scores(name, point, score)) for point in results.points]
    return sorted(((x, interval(list(found.values()))) for x, found in scores if found), key=lambda place: place[0])


def _along_seconds(results: Results, name: str, score: str) -> Curve:
    """A line's score at each point that has run, by the mean seconds that training, or sampling, took there."""
    curve = []
    training = _timed(results) == "training"
    for point in results.points:
        runs = results.runs(name, point).values()
        seconds = [cell.train_seconds if training else sampled.sample_seconds for cell, sampled in runs]
        known = [value for value in seconds if value is not None]
        found = results.scores(name, point, score)
        if known and found:
            curve.append((sum(known) / len(known), interval(list(found.values()))))
    return sorted(curve, key=lambda place: place[0])


def _timed(results: Results) -> str:
    """What takes longer from point to point: training, or sampling where all points are of equally long training."""
    return "training" if len({cell.images for cell in results.cells}) > 1 else "sampling"


def _curve(curve: Curve, x_axis: Axis, y_axis: Axis, stroke: Stroke) -> Markup:
    """A band from low to high, the line of means on it, and a dot at each point."""
    whole = []
    for value, found in curve:
        x, low, mean, high = x_axis.place(value), *(y_axis.place(y) for y in (found.low, found.mean, found.high))
        if x is not None and low is not None and mean is not None and high is not None:
            whole.append((x, low, mean, high))
    edge = [(x, high) for x, _, _, high in whole] + [(x, low) for x, low, _, _ in reversed(whole)]
    means = [(x, mean) for x, _, mean, _ in whole]
    return Markup().join([band(edge, stroke), polyline(means, stroke), *(circle(x, y, stroke) for x, y in means)])


def _dot(found: Interval, axis: Axis, y: float, colour: str) -> Markup:
    low, mean, high = (axis.place(value) for value in (found.low, found.mean, found.high))
    if low is None or mean is None or high is None:
        return text("did not run", axis.start + 4, y + 4, "start", SOFT, 12)
    return line(low, y, high, y, colour, 2.5) + circle(mean, y, Stroke(colour, ""))


def _frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str, top: float) -> Markup:
    """Grid, numbers and labels of a panel of curves."""
    bottom, start, end = top + HEIGHT, x_axis.start - 12, x_axis.end + 12
    parts = [line(start, bottom, end, bottom, SOFT, 1)]
    for tick in y_axis.ticks():
        y = y_axis.place(tick) or 0.0
        parts += [line(start, y, end, y, GRID, 1), text(compact(tick), start - 7, y + 4, "end", SOFT, 12)]
    for tick in _few(x_axis):
        x = x_axis.place(tick) or 0.0
        parts += [line(x, bottom, x, bottom + 5, SOFT, 1), text(compact(tick), x, bottom + 20, "middle", SOFT, 12)]
    parts.append(text(x_label, (start + end) / 2, bottom + 42, "middle", INK, 13))
    parts.append(text(y_label, start, top - 14, "start", INK, 13))
    return Markup().join(parts)


def _upright(axis: Axis, tick: float, top: float, height: float) -> Markup:
    x = axis.place(tick) or 0.0
    return line(x, top, x, top + height, GRID, 1) + text(compact(tick), x, top + height + 16, "middle", SOFT, 12)


def _legend(names: list[str], start: float, y: float, end: float) -> tuple[Markup, float]:
    """A stroke and the name of each line, in as many rows as they need; and the height of the rows."""
    parts, x, first = [], start, y
    for number, name in enumerate(names):
        width = 42 + _width(name, 13)
        if x + width > end:
            x, y = start, y + LEGEND - 8
        stroke = _stroke(number)
        parts += [polyline([(x, y), (x + 26, y)], stroke), circle(x + 13, y, stroke)]
        parts.append(text(name, x + 33, y + 4, "start", INK, 13))
        x += width + 14
    return Markup().join(parts), y - first + 22


def _axis(values: list[float], start: float, end: float, *, pad: float = 0.0, log: bool | None = None) -> Axis:
    """An axis over values, logarithmic if they are positive and span much."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    wide = min(known) > 0 and max(known) / min(known) >= LOG_RATIO
    return fit_axis(known, start + pad, end - pad, wide if log is None else log)


def _few(axis: Axis) -> list[float]:
    """Ticks of a horizontal axis that leave each other room."""
    ticks = axis.ticks()
    room = max((_width(compact(tick), 12) for tick in ticks), default=0) + 14
    kept: list[float] = []
    for tick in ticks:
        x, before = axis.place(tick) or 0.0, axis.place(kept[-1]) if kept else None
        if before is None or x - before >= room:
            kept.append(tick)
    return kept


def _stroke(number: int) -> Stroke:
    return Stroke(COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)])


def _width(words: str, size: int) -> float:
    return float(_font(size).getlength(words))


def _font(size: int = 13) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built with FreeType"
    return font


def _svg(width: float, height: float, parts: list[Markup]) -> Markup:
    form = Markup('<svg xmlns="http://www.w3.org/2000/svg" width="{:.0f}" height="{:.0f}" font-family="{}">{}</svg>')
    return form.format(width, height, _font().getname()[0], Markup().join(parts))
