"""Reading of the user's masks, images in which white is the hole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cspipe.data.user_masks import UserMasks
from cspipe.ingest.files import list_folder, read_file
from cspipe.ingest.images import BadImage, read
from cspipe.runtime.errors import UserError

WHITE = 128
"""Darkest grey that counts as a hole, of 0..255."""


def read_masks(folder: Path, size: int) -> UserMasks:
    """Read every mask below a folder. A hole may cover the whole image, so that no pixel is known.

    Raises UserError, naming the file, if an image is unreadable or has no hole, or if the folder has no images.
    """
    where = f"params.yaml: condition.mask_folder {folder}"
    if not folder.is_dir():
        raise UserError(f"{where} is no folder; put masks there, or set it to null")
    try:
        names = list_folder(folder).images
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read {error.filename}; make it readable for this user") from None
    if not names:
        raise UserError(f"{where} holds no images; put PNG files there, white where the hole is, or set it to null")
    return UserMasks(size, np.stack([np.packbits(_with_hole(folder / name, size)) for name in names]))


def read_mask(path: Path, size: int) -> NDArray[np.bool_]:
    """Read an image as a hole, bool (size, size): True where it is WHITE or lighter, or transparent.

    A mask of another size or shape is squeezed or stretched to the square, each pixel taking the nearest one's value.
    Raises UserError if it cannot be read.
    """
    try:
        grey = read(read_file(path)).convert("L")
    except BadImage as error:
        raise UserError(f"{path}: no mask ({error}); save it as PNG, white where the hole is") from None
    except OSError as error:
        raise UserError(f"{path}: the mask cannot be read ({error.strerror}); correct the path or its rights") from None
    return np.asarray(grey.resize((size, size), Image.Resampling.NEAREST)) >= WHITE


def _with_hole(path: Path, size: int) -> NDArray[np.bool_]:
    hole = read_mask(path, size)
    if not hole.any():
        raise UserError(
            f"{path}: a mask without a hole at {size} x {size} pixels (white is the hole); invert it or take it away"
        )
    return hole
