"""Decoding of one image: from the bytes of a file to uint8 pixels of the requested size.

A file is either decoded correctly or refused with a reason; a damaged one never becomes black or grey pixels. The
exception is damage inside a JPEG: libjpeg fills it in, and Pillow hides its warning.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

RESIZE = "bicubic, antialiased"
"""Resizing, as the index states it: Pillow's BICUBIC, whose support grows with the reduction, on gamma-coded values."""
FORMATS = ("PNG", "JPEG", "WEBP")
MEMORY = 3 * 2**28
"""Bytes that reading an image takes at most (within 2 %), besides its file: a process on each core reads one image."""
PIXEL_BYTES = {"PNG": 9, "JPEG": 10, "MPO": 10, "CMYK": 12, "WEBP": 16}
"""Bytes of MEMORY per pixel: Pillow's image of 4 plus a copy or libjpeg's coefficients; libwebp's four frames."""
MAX_SCANS = 100
"""Scans of a JPEG, at most; encoders write 10 to 20. A scan of 33 bytes in the file may pass over all pixels."""
MAX_SIDE = 2**16 - 1
"""Longest side of an image, in pixels, as in JPEG; decoders keep whole rows in memory."""
BAND_PIXELS = 2**20
"""Pixels that are made opaque at a time: each intermediate image takes 4 bytes per pixel."""
PNG_SIGNATURE, PNG_BIT_DEPTH = b"\x89PNG\r\n\x1a\n", 24


class BadImage(Exception):
    """An image that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Window:
    """A square to cut out of images that are all of one size, such as aligned faces; in pixels of the file."""

    left: int
    top: int
    side: int
    of: tuple[int, int]
    """Width and height that an image must have, in pixels."""


@dataclass(frozen=True)
class Form:
    """The size, channels and crop that every image is converted to."""

    size: int
    """Height and width, in pixels."""
    channels: int
    """Number of channels: 1 is grey (ITU-R 601 luma), 3 is RGB."""
    crop: Literal["center", "stretch"] | Window
    """What is kept: the central square, the whole image squeezed into a square, or the square of a Window."""
    filter: Image.Resampling = Image.Resampling.BICUBIC
    """Pillow's resampling filter, whose support grows with the reduction."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a converted image, (C, H, W)."""
        return self.channels, self.size, self.size


def decode(data: bytes, form: Form) -> NDArray[np.uint8]:
    """Decode the PNG, JPEG or WebP file `data` to uint8 (C, H, W), upright, on white where it is transparent.

    16-bit images are scaled to 8 bits, CMYK and palettes converted; colour profiles are ignored. Raises BadImage for a
    file that is damaged, truncated, animated, over MEMORY, of another format, or of a size that does not suit the crop.
    """
    return fit(read(data), form)


def read(data: bytes) -> Image.Image:
    """Decode the PNG, JPEG or WebP file `data` to an opaque image of mode L or RGB, upright by its EXIF orientation.

    Raises BadImage.
    """
    if not data:
        raise BadImage("empty file")
    try:
        if data.startswith(PNG_SIGNATURE):
            _open(data).verify()  # decoding alone does not compare checksums: damaged pixels would come out black
        image = _open(data)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _flat(image)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise BadImage("not readable as PNG, JPEG or WebP") from None
    except Image.DecompressionBombError as error:
        raise BadImage(f"too many pixels ({error})") from None
    except Exception as error:  # Pillow's decoders raise many exceptions for damaged files
        raise BadImage(f"damaged or truncated ({error})") from None


def fit(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """Crop, resize and convert an opaque image (mode L or RGB) to uint8 (C, H, W). Raises BadImage (for a Window)."""
    if form.crop != "stretch":
        window = form.crop if isinstance(form.crop, Window) else _central(*image.size)
        if image.size != window.of:
            (width, height), (right_width, right_height) = image.size, window.of
            raise BadImage(f"{width} x {height} pixels, not {right_width} x {right_height}")
        right, bottom = window.left + window.side, window.top + window.side
        if image.size != (window.side, window.side):  # crop and convert copy
            image = image.crop((window.left, window.top, right, bottom))
    mode = "L" if form.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    square = image.resize((form.size, form.size), form.filter)
    pixels = np.asarray(square).reshape(form.size, form.size, form.channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def enlarges(image: Image.Image, form: Form) -> bool:
    """Whether `fit` enlarges the part of an image that it keeps."""
    return (form.crop.side if isinstance(form.crop, Window) else min(image.size)) < form.size


def _central(width: int, height: int) -> Window:
    """Return the largest central square of an image."""
    side = min(width, height)
    return Window((width - side) // 2, (height - side) // 2, side, (width, height))


def _open(data: bytes) -> Image.Image:
    """Read only the header. Raises BadImage if the file must not be decoded, or if Pillow would decode it wrongly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, by a fixed limit
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    most = MEMORY // PIXEL_BYTES["CMYK" if image.mode == "CMYK" else str(image.format)]
    if image.width * image.height > most or max(image.size) > MAX_SIDE:
        bound = f"{most} pixels of {image.format}, or a side of {MAX_SIDE}"
        raise BadImage(f"{image.width} x {image.height} ({len(data)} bytes) is more than {bound}; make it smaller")
    if image.format in ("JPEG", "MPO") and _scans(data) > MAX_SCANS:
        raise BadImage(f"more than {MAX_SCANS} scans; save it anew")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a JPEG whose further frames are a depth map or a preview
        raise BadImage(f"animated ({frames} frames)")
    transparent_colour = image.mode == "RGB" and "transparency" in image.info
    if transparent_colour and data[PNG_BIT_DEPTH] == 16:  # Pillow would compare its 16 bits with pixels of 8 bits
        raise BadImage("16 bits per colour with a transparent colour")
    if image.mode == "L" and "transparency" in image.info:  # Pillow scales pixels to 8 bits, but not that grey
        image.info["transparency"] *= 255 // (2 ** data[PNG_BIT_DEPTH] - 1)
    return image


def _scans(data: bytes) -> int:
    """Count the scans of a JPEG, each a pass over its pixels: the SOS markers between its segments, up to EOI."""
    marker, place, scans = re.compile(rb"\xff([\x01-\xcf\xd9-\xfe])"), 2, 0
    while (found := marker.search(data, place)) and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans


def _flat(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to opaque 8-bit L or RGB."""
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return image
    flat = Image.new("L" if image.mode.startswith("I") else "RGB", image.size)
    rows = max(BAND_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        flat.paste(_flat_band(band), (0, top))
    return flat


def _flat_band(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert 16-bit grey, 0..65535, to 8-bit grey (convert() would clip it to white)."""
    values = np.asarray(image).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey)
