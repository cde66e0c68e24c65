"""SVG charts: numbers land on the right pixels, and what has no place is left out."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from cspipe.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Reference, Series, line_chart, position_bar

Point = tuple[float, float]


def paths(svg: Markup) -> list[list[Point]]:
    """Points of each path of a chart."""
    lines = [p.attrib["d"].removeprefix("M").split("L") for p in ET.fromstring(svg).iter("path")]
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line)] for line in lines]


def words(svg: Markup) -> list[str]:
    """All texts of a chart."""
    return [text.text or "" for text in ET.fromstring(svg).iter("text")]


def chart(y: list[float], **options: bool) -> Markup:
    """A chart of one series over 0, 1, 2, ..."""
    return line_chart("Title", [Series("s", [float(i) for i in range(len(y))], y)], "x label", "y label", **options)


def test_numbers_land_on_their_pixels() -> None:
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    (line,) = paths(chart([0.0, 0.25, 1.0]))
    expected = [(left, bottom), ((left + right) / 2, bottom + 0.25 * (top - bottom)), (right, top)]
    assert line == [pytest.approx(point, abs=0.06) for point in expected]


def test_log_scale_has_equal_decades() -> None:
    (line,) = paths(chart([0.01, 0.1, 1.0], log_y=True))
    assert [y for _, y in line] == pytest.approx([HEIGHT - BOTTOM, (HEIGHT - BOTTOM + TOP) / 2, TOP], abs=0.06)


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_a_hole_cuts_the_line(hole: float) -> None:
    assert [len(line) for line in paths(chart([1, 2, hole, 4, 5, 6]))] == [2, 3]


def test_log_scale_leaves_out_what_is_not_positive() -> None:
    svg = chart([0.1, 0.2, 0.0, -3.0, 0.5, 1.0], log_y=True)
    assert [len(line) for line in paths(svg)] == [2, 2]
    assert "nan" not in svg


def test_a_lone_point_is_a_dot() -> None:
    svg = chart([math.nan, 2.0, math.nan])
    assert paths(svg) == []
    assert len(list(ET.fromstring(svg).iter("circle"))) == 1


@pytest.mark.parametrize("y", [[], [math.nan, math.nan]])
@pytest.mark.parametrize("log_y", [False, True])
def test_nothing_to_draw_is_said(y: list[float], log_y: bool) -> None:
    svg = chart(y, log_y=log_y)
    assert "no data" in words(svg)
    assert paths(svg) == []


def test_data_is_not_said_to_be_missing() -> None:
    assert "no data" not in words(chart([1.0, 2.0]))


def test_from_zero_shows_zero() -> None:
    zeros = [words(chart([5.0, 6.0], from_zero=choice)).count("0") for choice in (True, False)]
    assert zeros == [2, 1]  # one of them stands on the x axis


def test_labels_legend_reference_and_title() -> None:
    both = [Series("first <b>", [0, 1], [1, 2]), Series("second", [0, 1], [2, 3])]
    svg = line_chart("T & co", both, "images seen", "loss", reference=Reference(4.0, "limit"))
    assert {"images seen", "loss", "first <b>", "second", "limit", "4"} <= set(words(svg))
    assert ET.fromstring(svg)[0].text == "T & co: first <b> from 1.00 to 2.00; second from 2.00 to 3.00"


def dot(svg: Markup) -> float:
    """Pixel of the dot of a position bar."""
    return float(next(ET.fromstring(svg).iter("circle")).attrib["cx"])


def test_bar_places_on_a_log_scale() -> None:
    ends = [dot(position_bar(value, math.nan, 0.001, 0.1, "m")) for value in (0.001, 0.01, 0.1)]
    assert ends[1] == pytest.approx((ends[0] + ends[2]) / 2, abs=0.06)
    assert ends[0] < ends[1]


def test_bar_keeps_what_lies_outside_at_its_ends() -> None:
    ends = [dot(position_bar(value, math.nan, 0.001, 0.1, "m")) for value in (0.001, 0.1)]
    outside = [dot(position_bar(value, math.nan, 0.001, 0.1, "m")) for value in (-0.2, 0.7)]
    assert outside == ends


@pytest.mark.parametrize("best", [0.0, -0.0004, math.nan])
def test_bar_without_a_positive_best_spans_four_decades(best: float) -> None:
    assert dot(position_bar(0.005, math.nan, best, 0.5, "m")) == dot(position_bar(0.005, math.nan, 0.5e-4, 0.5, "m"))


def test_bar_shows_the_spread() -> None:
    svg = ET.fromstring(position_bar(0.02, 0.01, 0.001, 0.1, "m"))
    (whisker,) = [line for line in svg.iter("line") if line.attrib["class"] == "whisker"]
    edges = [dot(position_bar(value, math.nan, 0.001, 0.1, "m")) for value in (0.01, 0.03)]
    assert [float(whisker.attrib["x1"]), float(whisker.attrib["x2"])] == edges


@pytest.mark.parametrize(("value", "worst"), [(math.nan, 0.1), (0.1, math.nan), (0.1, 0.0), (0.1, 0.001)])
def test_bar_is_empty_without_a_scale(value: float, worst: float) -> None:
    assert position_bar(value, 0.0, 0.001, worst, "m") == ""
