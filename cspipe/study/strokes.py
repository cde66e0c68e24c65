"""Pieces of an SVG: lines, bands, dots and words, with their colours in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]


@dataclass(frozen=True)
class Stroke:
    """How a line is drawn."""

    colour: str
    dashes: str
    """Lengths of dash and gap; empty: solid."""


def polyline(points: Sequence[Point], stroke: Stroke) -> Markup:
    """A line through points, which are pixels."""
    form = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>')
    return form.format(_listed(points), stroke.colour, stroke.dashes or "none")


def band(points: Sequence[Point], stroke: Stroke) -> Markup:
    """A light area with these corners."""
    return Markup('<polygon points="{}" fill="{}" fill-opacity="0.14"/>').format(_listed(points), stroke.colour)


def circle(x: float, y: float, stroke: Stroke) -> Markup:
    """A dot."""
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.6" fill="{}"/>').format(x, y, stroke.colour)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> Markup:
    """A straight line."""
    form = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"/>')
    return form.format(x1, y1, x2, y2, colour, width)


def text(words: str, x: float, y: float, anchor: str, colour: str, size: int) -> Markup:
    """A line of text, escaped."""
    form = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-size="{}">{}</text>')
    return form.format(x, y, anchor, colour, size, words)


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
