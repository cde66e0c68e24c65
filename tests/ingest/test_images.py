"""Files are shown rightly or refused with a reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cspipe.ingest.images import MEMORY, PIXEL_BYTES, BadImage, Form, decode

RGB, GREY = Form(8, 3, "center"), Form(8, 1, "center")
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def saved(image: Image.Image | NDArray[np.generic], kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a file, written by Pillow."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG file from its specification: what Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + end


def reason(data: bytes) -> str:
    with pytest.raises(BadImage) as error:
        decode(data, RGB)
    return str(error.value)


def test_channels() -> None:
    grey = decode(saved(NOISE), GREY)
    luma = NOISE @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (1, 8, 8)
    assert np.abs(grey[0] - luma).max() <= 1
    repeated = decode(saved(NOISE[..., 0]), RGB)
    np.testing.assert_array_equal(repeated, np.stack([NOISE[..., 0]] * 3))


def test_center_keeps_the_square_and_stretch_keeps_all() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :20, 0] = wide[:, 40:, 0] = 255
    wide[:, 20:40, 1] = 255
    for image in (wide, wide.transpose(1, 0, 2)):
        assert (decode(saved(image), Form(8, 3, "center")) == np.array([0, 255, 0])[:, None, None]).all()
        shares = decode(saved(image), Form(60, 3, "stretch")).mean((1, 2)) / 255
        np.testing.assert_allclose(shares, [2 / 3, 1 / 3, 0], atol=0.01)


def test_reduction_is_antialiased() -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(decode(saved(board), GREY).astype(int) - 127).max() <= 3


def test_sixteen_bit_grey_with_orientation_and_transparency() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = decode(png(8, 8, 16, 0, rows, chunk(b"eXIf", exif.tobytes()[6:])), GREY)[0]
    np.testing.assert_array_equal(turned, np.rint(values / 257)[::-1, ::-1])
    clear = decode(png(8, 8, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", values[2, 3]))), GREY)[0]
    expected = np.rint(values / 257)
    expected[2, 3] = 255
    np.testing.assert_array_equal(clear, expected)


def test_sixteen_bit_colour() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (8, 8, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert np.abs(decode(png(8, 8, 16, 2, rows), RGB).transpose(1, 2, 0) - values / 257).max() <= 1
    assert "transparent" in reason(png(8, 8, 16, 2, rows, chunk(b"tRNS", b"\0\1" * 3)))


def test_transparency_shows_white() -> None:
    half = np.zeros((8, 8, 4), np.uint8)
    half[:4] = (255, 0, 0, 128)
    pixels = decode(saved(half), RGB).transpose(1, 2, 0)
    assert np.abs(pixels[:4].astype(int) - (255, 127, 127)).max() <= 1
    assert (pixels[4:] == 255).all()

    veiled = np.full((8, 8, 2), 0, np.uint8)
    assert (decode(saved(Image.fromarray(veiled, "LA")), GREY) == 255).all()

    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert (decode(saved(palette), RGB) == np.array([0, 0, 255])[:, None, None]).all()
    assert (decode(saved(palette, transparency=0), RGB) == np.array([0, 0, 255])[:, None, None]).all()
    assert (decode(saved(palette, transparency=1), RGB) == 255).all()

    for depth, row in ((2, b"\x6c\x6c"), (4, b"\x37\x37\x37\x37"), (8, bytes([3, 7] * 4))):  # greys 1 2 3 0, 3 7, 3 7
        key = row[0] >> 8 - depth
        grey = decode(png(8, 8, depth, 0, (b"\0" + row) * 8, chunk(b"tRNS", struct.pack(">H", key))), GREY)[0]
        plain = decode(png(8, 8, depth, 0, (b"\0" + row) * 8), GREY)[0]
        assert (grey == np.where(plain == plain[0, 0], 255, plain)).all()

    keyed = Image.new("RGB", (8, 8), (9, 9, 9))
    assert (decode(saved(keyed, transparency=(9, 9, 9)), RGB) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])]
    assert "animated (2 frames)" in reason(saved(frames[0], kind, save_all=True, append_images=frames[1:]))


def test_what_is_no_image_is_refused() -> None:
    assert reason(b"") == "empty file"
    assert "not readable" in reason(b"hello")
    assert "not readable" in reason(saved(NOISE, "GIF"))
    assert "not readable" in reason(saved(NOISE, "TIFF"))
    more_than_a_palette_holds = chunk(b"PLTE", bytes(48)) + chunk(b"tRNS", bytes(300))
    assert "palette index" in reason(png(8, 8, 8, 3, (b"\0" + bytes(8)) * 8, more_than_a_palette_holds))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_truncated_files_are_refused(kind: str, options: dict[str, object]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(image, kind, **options)
    for share in (0.3, 0.6, 0.9):
        assert "truncated" in reason(data[: int(share * len(data))])


def test_no_damaged_byte_of_a_png_changes_pixels() -> None:
    """Pillow alone shows some of these files partly black."""
    data = saved(np.full((64, 64, 3), 200, np.uint8))
    for place in range(8, len(data)):
        damaged = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        try:
            assert (decode(damaged, RGB) == 200).all(), place
        except BadImage:
            continue


@pytest.mark.parametrize("side", [9_600, 40_000])
def test_decompression_bombs_are_refused_by_their_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow only warns of the first, and of neither once its global limit is lifted, as some libraries do."""
    assert side**2 > MEMORY // PIXEL_BYTES["PNG"]
    bomb = png(side, side, 8, 2, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "pixels" in reason(bomb)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert "pixels" in reason(bomb)
