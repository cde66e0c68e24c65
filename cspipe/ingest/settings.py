"""The section `data` of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cspipe.runtime.registry import find
from cspipe.runtime.settings import Count, Number, Section, file_of, no_switch

SOURCES = "cspipe.sources"


class AvatarSettings(Section):
    """Rendered faces (DiceBear styles)."""

    style: Literal["pixel-art", "open-peeps", "voxel-art", "lorelei", "notionists"] = Field(description="CC0 styles")
    paired: Literal["none", "glasses", "mask"] = Field(description="also render each face with this in front")


class DataSettings(Section):
    """The images: their source, size, crop and number."""

    source: Annotated[str, file_of(SOURCES)] = Field(description="where images come from")
    path: Path | None = Field(description="what the source reads, null for avatars")
    size: Count = Field(le=1024, description="pixels, height and width after the crop")
    channels: Annotated[Literal[1, 3], BeforeValidator(no_switch)] = Field(description="1 grey, 3 RGB")
    crop: Literal["center", "stretch"] = Field(description="centre square, or squeeze the whole image")
    limit: Count | None = Field(description="images at most, train and test together; null: all")
    held_out: Literal["official"] | Annotated[Number, Field(gt=0, lt=1)] = Field(
        description="share of the images kept as the test split, or official for a source that has one"
    )
    avatars: AvatarSettings

    @model_validator(mode="after")
    def _path_fits_source(self) -> DataSettings:
        reads_path = find(SOURCES, self.source, "READS_PATH")
        if reads_path and self.path is None:
            raise ValueError(f"data.path must name a file or folder with data.source {self.source}")
        if not reads_path and self.path is not None:
            raise ValueError(f"data.path must be null with data.source {self.source} (images are made, not read)")
        if not reads_path and self.limit is None:
            raise ValueError(f"data.limit must be a number with data.source {self.source} (there is no end to them)")
        official = find(SOURCES, self.source, "OFFICIAL_SPLIT")
        if official != (self.held_out == "official"):
            need = "official (it has its own test split)" if official else "a share between 0 and 1"
            raise ValueError(f"data.held_out must be {need} with data.source {self.source}")
        return self

    @property
    def test_share(self) -> float:
        """Share of the images that is the test split, for a source without an official split."""
        assert self.held_out != "official", "params.yaml is refused with official for such a source"
        return self.held_out

    @property
    def paired(self) -> bool:
        """Whether the source gives a second image of each scene, with something in front."""
        gives: bool = find(SOURCES, self.source, "PAIRED")
        return gives and (self.source != "avatars" or self.avatars.paired != "none")
