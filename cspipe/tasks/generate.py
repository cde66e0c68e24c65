"""Generation: images from noise, without a condition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cspipe.data.settings import ConditionSettings
    from cspipe.data.shards import Shards


def condition_channels(image_channels: int) -> int:
    """Return 0: generation has no condition."""
    return 0


def open_conditions(settings: ConditionSettings, images: Shards, prepared: Path) -> None:
    """Return None: generation has no conditions."""
