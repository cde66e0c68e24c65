"""SVG charts: what is drawn, in the page's colours, and what has no place is left out."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from cspipe.report.charts import Reference, Series, line_chart

Point = tuple[float, float]


def element(svg: Markup) -> ET.Element:
    return ET.fromstring(str(svg).replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))


def lines(svg: Markup, colour: str = "line-0") -> list[list[Point]]:
    """Unbroken runs of points of the lines of a colour, in pixels."""
    paths = [p.get("d", "") for p in element(svg).iter("path") if f"stroke: var(--{colour})" in p.get("style", "")]
    runs = [run for path in paths for run in path.split("M") if "L" in run]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", run)] for run in runs]


def words(svg: Markup) -> list[str]:
    """All texts of a chart."""
    return [text.text or "" for text in element(svg).iter("text")]


def chart(y: list[float], **options: bool) -> Markup:
    """A chart of one series over 0, 1, 2, ..."""
    return line_chart("Title", [Series("s", [float(i) for i in range(len(y))], y)], "x label", "y label", **options)


def test_numbers_are_to_scale() -> None:
    ((a, b, c),) = lines(chart([0.0, 0.25, 1.0]))
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.01)
    assert a[1] - b[1] == pytest.approx((a[1] - c[1]) / 4, abs=0.01)


def test_log_scale_has_equal_decades() -> None:
    ((a, b, c),) = lines(chart([0.01, 0.1, 1.0], log_y=True))
    assert a[1] - b[1] == pytest.approx(b[1] - c[1], abs=0.01)


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_a_hole_cuts_the_line(hole: float) -> None:
    assert [len(line) for line in lines(chart([1, 5, hole, 4, 9, 6]))] == [2, 3]


def test_log_scale_leaves_out_what_is_not_positive() -> None:
    svg = chart([0.1, 0.2, 0.0, -3.0, 0.5, 1.0], log_y=True)
    assert [len(line) for line in lines(svg)] == [2, 2]
    assert "nan" not in svg


def test_a_lone_point_is_a_dot() -> None:
    dots = [len(list(element(chart(y)).iter("use"))) for y in ([math.nan, 2.0, math.nan], [math.nan] * 3)]
    assert dots[0] > dots[1]


@pytest.mark.parametrize("y", [[], [math.nan, math.nan], [1.0, 2.0]])
@pytest.mark.parametrize("log_y", [False, True])
def test_nothing_to_draw_is_said(y: list[float], log_y: bool) -> None:
    known = any(map(math.isfinite, y))
    svg = chart(y, log_y=log_y)
    assert ("no data" in words(svg)) != known
    assert bool(lines(svg)) == known


def test_from_zero_shows_zero() -> None:
    zeros = [words(chart([5.0, 6.0], from_zero=choice)).count("0") for choice in (True, False)]
    assert zeros == [2, 1]  # one of them stands on the x axis


def test_labels_legend_reference_and_title() -> None:
    both = [Series("first <b>", [0, 1], [1, 2]), Series("second", [0, 1], [2, 3])]
    svg = line_chart("T & co", both, "images seen", "loss", reference=Reference(4.0, "limit"))
    assert {"images seen", "loss", "first <b>", "second", "limit", "4"} <= set(words(svg))
    assert element(svg)[0].text == "T & co: first <b> from 1.00 to 2.00; second from 2.00 to 3.00"
    assert lines(svg)
    assert lines(svg, "line-1")


def test_charts_of_a_page_share_no_id_and_say_nothing_of_when_they_were_made() -> None:
    charts = [line_chart(title, [Series("s", [0, 1], [1, 2])], "x", "y") for title in ("a", "b")]
    ids = [re.findall(r' id="([^"]+)"', svg) for svg in charts]
    assert not set(ids[0]) & set(ids[1])
    assert "metadata" not in charts[0] + charts[1]
    assert "#" not in re.sub(r'url\(#\w+\)|href="#\w+"', "", charts[0])  # no colour that dark mode could not change
