"""Charts as inline SVG. Colours are CSS variables of the page, so one drawing serves light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cspipe.report.axes import Axis, drawable, fit_axis, widened
from cspipe.report.numbers import compact, significant

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 30, 44
LEGEND_STROKE, LETTER = 42, 7
BAR_WIDTH, BAR_HEIGHT, BAR_PAD = 240, 24, 8
BAR_DECADES = 4


@dataclass(frozen=True)
class Series:
    """A named line through (x, y), equally long; a value that cannot be drawn leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Reference:
    """A horizontal line that y is read against."""

    y: float
    label: str


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    from_zero: bool = False,
    reference: Reference | None = None,
) -> Markup:
    """An SVG line chart. `title` and the ends of each line are its accessible title; labels carry the units.

    `log_y` leaves out values that are not positive; `from_zero` makes a linear y axis start at 0 or below.
    """
    marks = [reference.y] if reference else []
    x_axis = fit_axis((v for s in series for v in s.x), LEFT, WIDTH - RIGHT)
    y_values = [v for s in series for v in s.y] + marks + ([0.0] if from_zero and not log_y else [])
    y_axis = widened(fit_axis(y_values, HEIGHT - BOTTOM, TOP, log_y))
    paths = [_line(i, s, x_axis, y_axis) for i, s in enumerate(series)]
    parts = [
        _frame(x_axis, y_axis, x_label, y_label),
        _reference(reference, y_axis) if reference else Markup(),
        *paths,
        _legend(series) if len(series) > 1 else Markup(),
        Markup() if any(paths) else _text("no data", "label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT / 2, "middle"),
    ]
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>')
    return svg.format(WIDTH, HEIGHT, _description(title, series, log_y), Markup().join(parts))


def position_bar(value: float, spread: float, best: float, worst: float, mark: str) -> Markup:
    """Where `value` lies between `best` and `worst` on a log scale; empty if there is nothing to draw.

    The scale spans BAR_DECADES decades at most (an unbiased `best` may be 0 or negative); what lies outside is drawn
    at its end. `spread` (NaN: none) is a whisker on both sides. `mark` is the CSS class of the dot.
    """
    low = max(best, worst * 10.0**-BAR_DECADES) if math.isfinite(best) else worst * 10.0**-BAR_DECADES
    if not (math.isfinite(value) and math.isfinite(worst) and 0 < low < worst):
        return Markup()
    axis = Axis(low, worst, BAR_PAD, BAR_WIDTH - BAR_PAD, log=True)

    def x(v: float) -> float:
        """Pixel of `v`, kept within the scale."""
        return axis.place(min(max(v, low), worst)) or 0.0

    middle = BAR_HEIGHT / 2
    parts = [_segment("tick", x(tick), middle - 4, x(tick), middle + 4) for tick in axis.ticks()]
    parts.append(_segment("rail", x(low), middle, x(worst), middle))
    if math.isfinite(spread):
        parts.append(_segment("whisker", x(value - spread), middle, x(value + spread), middle))
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>')
    svg = Markup('<svg class="bar" viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>')
    title = f"{significant(value)}, between {significant(best)} (real) and {significant(worst)} (noise)"
    return svg.format(BAR_WIDTH, BAR_HEIGHT, title, Markup().join([*parts, dot.format(mark, x(value), middle)]))


def _description(title: str, series: Sequence[Series], log_y: bool) -> str:
    """The title, and where each line starts and ends."""
    ends = []
    for s in series:
        y = [v for v in s.y if drawable(v, log_y)]
        ends.append(f"{s.name} from {significant(y[0])} to {significant(y[-1])}" if y else f"{s.name}: no data")
    return f"{title}: {'; '.join(ends)}" if ends else title


def _frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> Markup:
    """Grid lines, tick numbers and the two labels."""
    parts = [_segment("axis", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM)]
    for tick in y_axis.ticks():
        y = y_axis.place(tick) or 0.0
        parts.append(_segment("grid", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(compact(tick), "number", LEFT - 7, y + 4, "end"))
    for tick in x_axis.ticks():
        x = x_axis.place(tick) or 0.0
        parts.append(_segment("axis", x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4))
        parts.append(_text(compact(tick), "number", x, HEIGHT - BOTTOM + 18, "middle"))
    parts.append(_text(x_label, "label", WIDTH - RIGHT, HEIGHT - 6, "end"))
    parts.append(_text(y_label, "label", 2, 13, "start"))
    return Markup().join(parts)


def _line(index: int, series: Series, x_axis: Axis, y_axis: Axis) -> Markup:
    """One path per unbroken run of points; a lone point becomes a dot."""
    parts = []
    for run in _runs(series, x_axis, y_axis):
        if len(run) == 1:
            dot = Markup('<circle class="dot series-{}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>')
            parts.append(dot.format(index, *run[0]))
        else:
            points = "L".join(f"{x:.1f},{y:.1f}" for x, y in run)
            parts.append(Markup('<path class="series series-{}" d="M{}"/>').format(index, points))
    return Markup().join(parts)


def _runs(series: Series, x_axis: Axis, y_axis: Axis) -> Iterator[list[tuple[float, float]]]:
    """Pixels of the points, cut where a value cannot be drawn."""
    run: list[tuple[float, float]] = []
    for value_x, value_y in zip(series.x, series.y, strict=True):
        x, y = x_axis.place(value_x), y_axis.place(value_y)
        if x is not None and y is not None:
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _legend(series: Sequence[Series]) -> Markup:
    """A stroke and the name of each line, above the frame. SVG cannot measure text: room for wide letters is left."""
    parts = []
    x = WIDTH - RIGHT - sum(LEGEND_STROKE + LETTER * len(s.name) for s in series)
    for index, s in enumerate(series):
        parts.append(_segment(f"series series-{index}", x, 9, x + LEGEND_STROKE - 16, 9))
        parts.append(_text(s.name, "label", x + LEGEND_STROKE - 10, 13, "start"))
        x += LEGEND_STROKE + LETTER * len(s.name)
    return Markup().join(parts)


def _reference(reference: Reference, y_axis: Axis) -> Markup:
    """The dashed line and its label, above the line or, at the top of the frame, below it."""
    y = y_axis.place(reference.y)
    if y is None:
        return Markup()
    label = _text(reference.label, "label", WIDTH - RIGHT - 2, y - 5 if y > TOP + 12 else y + 14, "end")
    return _segment("reference", LEFT, y, WIDTH - RIGHT, y) + label


def _segment(css: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line."""
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(css, x1, y1, x2, y2)


def _text(text: str, css: str, x: float, y: float, anchor: str) -> Markup:
    """A line of text, escaped."""
    element = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return element.format(css, x, y, anchor, text)
