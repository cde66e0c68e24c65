"""Several brush strokes of medium width, or small boxes, are missing."""

from __future__ import annotations

from cspipe.data.masks._strokes import Boxes, Brush

draw = Brush(
    strokes=(4, 5),
    width=(5, 55),
    length=(10, 110),
    boxes=Boxes(share=3 / 13, number=(1, 5), side=(10, 50), margin=0),  # LaMa: 0.3 to 1
).draw
