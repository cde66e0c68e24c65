"""A few thick brush strokes, or large boxes, are missing."""

from __future__ import annotations

from cspipe.data.masks._strokes import Boxes, Brush

draw = Brush(
    strokes=(1, 5),
    width=(5, 105),
    length=(10, 210),
    boxes=Boxes(share=3 / 13, number=(1, 3), side=(30, 150), margin=10),  # LaMa: 0.3 to 1
).draw
