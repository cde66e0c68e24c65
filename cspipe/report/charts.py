"""Charts by matplotlib, as SVG for the report and as PNG for docs/results. The same numbers give the same bytes."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from cspipe.report.numbers import compact, significant

INK, SOFT, GRID = "#1d1c1a", "#6a665f", "#e4e0d8"
PAGE_COLOURS = {"#1f5fa8": "line-0", "#c2571a": "line-1", INK: "ink", SOFT: "soft", GRID: "grid"}
"""Colours that become CSS variables of the page, so that one drawing serves light, dark and print."""
LINES = (("#1f5fa8", "-"), ("#c2571a", "--"))
SIZE = (7.2, 3.75)
"""Width and height of a chart on the page, in inches of 72 SVG units."""
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->| id=\"[\w.]+_\d+\"", re.DOTALL)
"""Parts removed from an SVG in the page: metadata, comments, styles of the whole page, ids that other charts share."""
DOTTED = 30
"""Most points of a line that has a dot at each of them, so that a lone point is seen."""
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 11.5, "text.color": INK, "legend.frameon": False, "lines.linewidth": 1.8,
    "axes.labelcolor": INK, "axes.edgecolor": SOFT, "axes.titlelocation": "left", "axes.titlesize": "medium",
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.xmargin": 0.03,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": GRID, "xtick.color": SOFT,
    "ytick.color": SOFT, "ytick.left": False, "svg.fonttype": "none", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.08,
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """A named line through points (x, y), sequences of equal length; a value that cannot be drawn leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Reference:
    """A labelled horizontal line to compare y with."""

    y: float
    label: str


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    log_y: bool = False,
    from_zero: bool = False,
    reference: Reference | None = None,
) -> Markup:
    """Draw an SVG line chart; above it y label and legend are text, which wraps on a phone. Labels carry the units.

    `title` and the ends of each line are the accessible title. `log_y` leaves out values that are not positive;
    `from_zero` makes a linear y axis start at 0 or below.
    """
    shown = [_drawable(each, log_y) for each in series]

    def draw(figure: Figure) -> None:
        """Draw the lines and the reference."""
        axes = figure.subplots()
        set_scale(axes, "x", x_label)
        axes.xaxis.labelpad = 8  # on a phone the page makes both larger
        set_scale(axes, "y", "", log=log_y)
        for each, (colour, dash) in zip(shown, LINES, strict=False):
            few = sum(map(math.isfinite, each.y)) <= DOTTED
            axes.plot(each.x, each.y, color=colour, linestyle=dash, marker="." if few else "")
        if reference:
            axes.axhline(reference.y, color=SOFT, linestyle=":", linewidth=1.2)
        if from_zero:
            axes.set_ylim(bottom=min([0.0, *(y for each in shown for y in each.y if math.isfinite(y))]))
        if not any(math.isfinite(y) for each in shown for y in each.y):
            axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color=SOFT)

    legend = [(f"line-{number}", each.name) for number, each in enumerate(shown) if len(shown) > 1]
    legend += [("soft", reference.label)] if reference else []
    words = Markup("").join(Markup('<span class="{}">{}</span>').format(*entry) for entry in legend)
    svg = _svg(f"{title}: {'; '.join(map(_ends, shown))}", draw)
    return Markup('<p class="legend"><b>{}</b>{}</p>').format(y_label, words) + svg


def set_scale(axes: Axes, which: Literal["x", "y"], label: str, *, log: bool = False) -> None:
    """Give an axis its scale, its label (of y as the chart's title) and round ticks in short form (64k)."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        axes.set(**{f"{which}scale": "log"})
    ticks = LogLocator(subs=(1.0, 2.0, 5.0)) if log else MaxNLocator(7, steps=[1, 2, 5, 10])
    axis.set_major_locator(ticks)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: compact(value))
    if which == "x":
        axes.set_xlabel(label)
    else:
        axes.set_title(label)


def png(draw: Callable[[Figure], None], width: float, height: float) -> bytes:
    """Return what `draw` draws on a figure of `width` x `height` inches, as PNG."""
    return _saved(draw, (width, height), {}, format="png", dpi=150, metadata={"Software": None})


def _svg(title: str, draw: Callable[[Figure], None]) -> Markup:
    """Return what `draw` draws as an SVG element, without ids that other charts have too, colours as CSS variables."""
    text = _saved(draw, SIZE, {"svg.hashsalt": title}, format="svg", transparent=True, metadata=NO_METADATA).decode()
    view = re.search(r'viewBox="[^"]*"', text)
    assert view, "matplotlib writes one"
    text = text[text.index(">", view.end()) + 1 :]
    text = LEFT_OUT.sub("", text)
    for colour, name in PAGE_COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return Markup('<svg class="chart" {} role="img"><title>{}</title>').format(Markup(view[0]), title) + Markup(text)


def _saved(draw: Callable[[Figure], None], size: tuple[float, float], style: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE | style):
        figure = Figure(figsize=size)
        draw(figure)
        figure.savefig(file, **options)
    return file.getvalue()


def _drawable(series: Series, log: bool) -> Series:
    """Return the series with NaN for values that cannot be drawn on the axis."""
    y = [value if math.isfinite(value) and (value > 0 or not log) else math.nan for value in series.y]
    return Series(series.name, series.x, y)


def _ends(series: Series) -> str:
    """Describe where a line starts and ends."""
    known = [significant(y) for y in series.y if math.isfinite(y)]
    return f"{series.name} from {known[0]} to {known[-1]}" if known else f"{series.name}: no data"
