"""The section `condition` of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from cspipe.runtime.settings import Section, key_of

MASKS, OCCLUDERS = ("cspipe.tasks", "inpaint", "MASKS"), ("cspipe.tasks", "deocclude", "OCCLUDERS")
"""(package, file, member) with the names to choose from; not imported, so that a stage depends only on its task."""


class ConditionSettings(Section):
    """The section `condition` of params.yaml: what the net sees beside x_t, in the tasks inpaint and deocclude."""

    masks: list[Annotated[str, key_of(*MASKS)]] = Field(description="inpaint: families, one drawn for each image")
    mask_folder: Path | None = Field(description="inpaint: a folder of masks, white where the hole is; null: none")
    occluders: list[Annotated[str, key_of(*OCCLUDERS)]] = Field(
        description="deocclude: drawn in front of the clean images; []: the pairs of the data"
    )
