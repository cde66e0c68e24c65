"""The data section of the shipped params.yaml, small, with values to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cspipe.params import Data
from cspipe.params_file import load_params

SHIPPED = load_params(Path(__file__).parents[2] / "params.yaml").data.model_dump()


@pytest.fixture
def settings() -> Callable[..., Data]:
    """Make a data section: settings(source="folder", path=..., style=..., paired=...)."""

    def make(style: str = "pixel-art", paired: str = "none", **values: Any) -> Data:
        avatars = {"style": style, "paired": paired}
        if values.get("source", "avatars") != "avatars":
            values.setdefault("limit", None)
        return Data.model_validate({**SHIPPED, "limit": 40, "held_out": 0.25, **values, "avatars": avatars})

    return make
