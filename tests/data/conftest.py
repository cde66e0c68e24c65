"""The data section of the shipped params.yaml, small, with values to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cspipe.choices import find
from cspipe.params import SOURCES, Data
from cspipe.params_file import load_params

SHIPPED = load_params(Path(__file__).parents[2] / "params.yaml").data.model_dump()


@pytest.fixture
def settings() -> Callable[..., Data]:
    """Make a data section: settings(source="folder", path=..., style=..., paired=...)."""

    def make(style: str = "pixel-art", paired: str = "none", **values: Any) -> Data:
        avatars = {"style": style, "paired": paired}
        source = values.get("source", "avatars")
        if source != "avatars":
            values.setdefault("limit", None)
        if find(SOURCES, source, "OFFICIAL_SPLIT"):
            values.setdefault("held_out", "official")
        return Data.model_validate({**SHIPPED, "limit": 40, "held_out": 0.25, **values, "avatars": avatars})

    return make
