"""The user's masks as they are stored with the prepared data (cspipe/ingest/user_masks.py reads the images)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from cspipe.runtime.errors import UserError

FILE = "masks.npy"
FIX = "run `dvc repro --force prepare`"


@dataclass(frozen=True)
class UserMasks:
    """The user's masks, one bit per pixel: 12,000 masks of 256 x 256 pixels take 100 MB."""

    size: int
    packed: NDArray[np.uint8]
    """Array (number of masks, bytes that hold size x size bits)."""

    def save(self, folder: Path) -> None:
        """Write the masks to a folder of prepared data, where `load_masks` finds them."""
        np.save(folder / FILE, self.packed)

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw one of the masks: bool (size, size). Raises ValueError if they were read for another size."""
        if size != self.size:
            raise ValueError(f"masks were read for {self.size} pixels, not {size}")
        bits = np.unpackbits(self.packed[rng.integers(len(self.packed))], count=size * size)
        return bits.reshape(size, size).astype(np.bool_)


def load_masks(folder: Path, size: int) -> UserMasks:
    """Load the masks of a folder of prepared data. Raises UserError if there are none of this size."""
    try:
        packed: NDArray[np.uint8] = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # NumPy parses a header as Python
        raise UserError(f"{folder / FILE}: no masks ({error}); {FIX}") from None
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != -(-size * size // 8):
        raise UserError(f"{folder / FILE}: not masks of {size} pixels; {FIX}")
    return UserMasks(size, packed)
