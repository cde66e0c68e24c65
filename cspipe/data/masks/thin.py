"""Few or many thin, short brush strokes are missing."""

from __future__ import annotations

from cspipe.data.masks._strokes import Brush

draw = Brush(strokes=(4, 50), width=(5, 15), length=(10, 50)).draw
