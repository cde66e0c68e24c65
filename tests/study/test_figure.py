"""The figure: that what must be drawn is drawn. What it looks like was looked at."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageColor

from cspipe.study.figure import COLOURS, figure
from tests.study.conftest import Make


def colours(data: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return {tuple(map(int, colour)) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}


def drawn(data: bytes) -> list[bool]:
    """Which of the lines' colours are in a picture."""
    found = colours(data)
    return [ImageColor.getrgb(colour) in found for colour in COLOURS]


def test_curves_have_a_line_for_each_row(made: Make) -> None:
    scores = {(row, point): [9.0, 9.5] for row in ("plain", "cs", "ip") for point in ("1000", "2000")}
    assert drawn(figure(made(scores)))[:4] == [True, True, True, False]


def test_scores_stand_side_by_side_without_numeric_points(made: Make) -> None:
    data = figure(made({("plain", None): [9.0, 9.5], ("cs", None): [4.0, 5.0]}))
    assert drawn(data)[:3] == [True, True, False]
    width, height = Image.open(io.BytesIO(data)).size
    assert width > height


def test_line_that_never_ran_leaves_the_others(made: Make) -> None:
    scores = {("plain", "1000"): [9.0, 9.5], ("plain", "2000"): [4.0, 5.0], ("cs", "1000"): [None, None]}
    assert drawn(figure(made(scores)))[0]
    assert drawn(figure(made({("plain", None): [9.0, 9.5], ("cs", None): [None, None]})))[0]
