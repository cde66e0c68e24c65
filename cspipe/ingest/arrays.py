"""ArrayImages: a source whose images are the rows of one NumPy array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cspipe.ingest.images import Form, enlarges, fit
from cspipe.ingest.source import Facts, PreparedImage, Skipped, Split


@dataclass(frozen=True)
class ArrayImages:
    """Source of the images of an array whose splits and indices `numbers` lists, in that order."""

    images: NDArray[np.uint8]
    """All images, (N, H, W, C), memory-mapped or in memory."""
    numbers: list[tuple[Split, int]]
    form: Form
    stamp: str
    facts: Facts

    @property
    def total(self) -> int:
        """Number of images in the stream."""
        return len(self.numbers)

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        """Yield the resized images from item `start` on; `workers` is not used, as there is nothing to decode."""
        for split, number in self.numbers[start:]:
            pixels = self.images[number]
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            yield PreparedImage(split, fit(image, self.form), enlarged=enlarges(image, self.form))
