"""Images in one NumPy array: an .npy file, or an .npz file with a single array.

The axes are read from the shape: (N, H, W) is grey; with four axes, the channels (1 or 3) are the last or the second
one, and the two others must be larger than 3, so that no array can be read in two ways.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cspipe.ingest.arrays import ArrayImages
from cspipe.ingest.files import check_member, stamp_of
from cspipe.ingest.images import RESIZE, BadImage
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import Facts, divide, form_of, path_of
from cspipe.runtime.errors import UserError

READS_PATH = True
OFFICIAL_SPLIT = PAIRED = False
CHANNELS = (1, 3)
LARGEST_COPY = 2**30
"""Size limit of the temporary copy of an .npz file's array, in bytes."""
DAMAGES = (ValueError, EOFError, SyntaxError, TokenError, BadImage, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Exceptions raised on reading a file that holds no array; zipfile raises RuntimeError for an encrypted one."""
FACTS: Facts = {"licence": "not stated", "resize": RESIZE}


def open_source(data: DataSettings) -> ArrayImages:
    """Return the images of the array in data.path. Raises UserError if it is missing, damaged or no array of images."""
    path = path_of(data)
    where = f"params.yaml: data.path {path}"
    try:
        array = _map(path, where)
    except DAMAGES as error:
        raise UserError(f"{where} cannot be read as an array of numbers ({error}); save it anew with np.save") from None
    except FileNotFoundError:
        raise UserError(f"{where} does not exist; correct it, or put the file there") from None
    except PermissionError:
        raise UserError(f"{where}: no permission to read it; make it readable") from None
    images = channels_last(array, where)
    names = divide((str(i) for i in range(len(images))), data.test_share, data.limit)
    numbers = [(split, int(name)) for split, name in names]
    return ArrayImages(images, numbers, form_of(data), stamp_of([path]), FACTS)


def channels_last(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """View an array of images as (N, H, W, C). Raises UserError, starting with `where`, for any other array."""
    if array.dtype != np.uint8:
        raise UserError(f"{where} holds {array.dtype}, not uint8; save values 0..255 as uint8")
    shape = array.shape
    small = [axis for axis in range(1, array.ndim) if shape[axis] <= max(CHANNELS)]
    if array.ndim == 3 and not small and shape[0] not in CHANNELS:
        return array[..., None]
    if array.ndim == 4 and small in ([1], [3]) and shape[small[0]] in CHANNELS:
        return np.moveaxis(array, small[0], 3)
    raise UserError(
        f"{where} has shape {shape}, which is not clearly (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3 and "
        "H, W of at least 4; save it in one of these shapes"
    )


def _map(path: Path, where: str) -> NDArray[Any]:
    """Memory-map the array; that of an .npz from a temporary copy, deleted at once, as it may be compressed."""
    if path.exists() and not path.is_file():
        raise UserError(f"{where} is no file; name an .npy or .npz file")
    if path.suffix == ".npy":
        return _load(path)
    if path.suffix != ".npz":
        raise UserError(f"{where} is neither .npy nor .npz; save the images with np.save or np.savez")
    with zipfile.ZipFile(path) as archive, tempfile.NamedTemporaryFile(suffix=".npy") as copy:
        names = archive.namelist()
        if len(names) != 1:
            raise UserError(f"{where} holds {len(names)} arrays ({', '.join(names[:5])}); save one alone with np.savez")
        check_member(archive.getinfo(names[0]), LARGEST_COPY)
        with archive.open(names[0]) as member:
            shutil.copyfileobj(member, copy)
        copy.flush()
        return _load(Path(copy.name))


def _load(path: Path) -> NDArray[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("an .npz file in its place")
    return array
