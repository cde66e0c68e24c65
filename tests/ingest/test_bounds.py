"""What hostile files may take: memory, room on the disk, time."""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cspipe.cli.apply import read_image
from cspipe.ingest import images
from cspipe.ingest.files import Decoder
from cspipe.ingest.images import PIXEL_BYTES, BadImage, Form, decode, read
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import Skipped
from cspipe.ingest.user_masks import read_mask
from cspipe.runtime.errors import UserError
from cspipe.sources import folder, npz
from tests.ingest.test_images import png, saved

FORM = Form(8, 3, "center")
SIDE = 3000
WEBP = "5249464626000000574542505650384c190000002fb7e42d19075081540820000a1a02495bbced8f8f88e87f0000"
"""9400 x 9400 pixels in 46 bytes."""
PEAK = """
import sys
from pathlib import Path
from cspipe.ingest.images import Form, decode
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
decode(Path(sys.argv[1]).read_bytes(), Form(8, 3, "center"))  # once, for what is loaded only then
Path("/proc/self/clear_refs").write_text("5")
before = peak()
decode(Path(sys.argv[2]).read_bytes(), Form(8, 3, "center"))
print(peak() - before)
"""


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "palette": ("P", "PNG", {"transparency": 0}),
    "alpha": ("RGBA", "PNG", {"exif": turned()}),
    "16-bit": ("I;16", "PNG", {}),
    "photograph": ("RGB", "JPEG", {"exif": turned(), "progressive": True, "subsampling": 0}),
    "print": ("CMYK", "JPEG", {"progressive": True}),
    "webp": ("RGBA", "WEBP", {"lossless": True, "quality": 0, "method": 0}),
}


def peak_of(folder: Path, mode: str, format: str, size: tuple[int, int], options: dict[str, Any]) -> int:
    """Bytes that a process takes to decode an image of one colour."""
    files = [str(folder / name) for name in ("small", "large")]
    for file, shape in zip(files, ((16, 16), size), strict=True):
        Image.new(mode, shape).save(file, format, **options)
    done = subprocess.run([sys.executable, "-c", PEAK, *files], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_takes_the_memory_that_its_bound_counts_with(kind: str, tmp_path: Path) -> None:
    mode, format, options = KINDS[kind]
    found = peak_of(tmp_path, mode, format, (SIDE, SIDE), options)
    assert found < PIXEL_BYTES["CMYK" if mode == "CMYK" else format] * SIDE**2 + 2**25


def test_images_over_the_bound_are_refused_with_their_sizes() -> None:
    for data, parts in (
        (bytes.fromhex(WEBP), ("9400 x 9400", "46 bytes", str(images.MEMORY // PIXEL_BYTES["WEBP"]))),
        (png(70_000, 1, 8, 6, b""), ("70000 x 1", "65535")),
    ):
        with pytest.raises(BadImage) as error:
            decode(data, FORM)
        assert all(part in str(error.value) for part in parts)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("mode", "format", "size", "options"),
    [
        ("P", "PNG", (9400, 9400), {"transparency": 0}),
        ("RGBA", "PNG", (9400, 9400), {}),
        ("RGB", "JPEG", (8000, 6000), {"exif": turned()}),
        ("RGB", "WEBP", (8000, 6000), {"method": 0}),
    ],
)
def test_large_images_are_read_within_the_bound(
    mode: str, format: str, size: tuple[int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    assert peak_of(tmp_path, mode, format, size, options) < images.MEMORY


def test_a_jpeg_of_hundreds_of_scans_is_refused_and_what_only_looks_so_is_not() -> None:
    """A megabyte of them would take an hour."""
    data = saved(np.full((64, 64, 3), 9, np.uint8), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert data.count(b"\xff\xda") == 10
    with pytest.raises(BadImage, match="100 scans"):
        decode(data[:-2] + scan * 91 + data[-2:], FORM)
    for fine in (
        data[:-2] + scan * 90 + data[-2:],
        saved(np.full((64, 64, 3), 9, np.uint8), "JPEG", comment=b"\xff\xda" * 300),
        data + b"\xff\xda\x00\x00" * 300,
    ):
        assert (decode(fine, FORM) == 9).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_bands_do_not_show(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 4), np.uint8)
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode.replace("P", "RGB"))
    image = image.quantize(99) if mode == "P" else image.convert(mode)
    data = saved(image, **({"transparency": 7} if mode in "1LP" else {}))
    whole = read(data)
    monkeypatch.setattr(images, "BAND_PIXELS", 130)
    np.testing.assert_array_equal(np.asarray(read(data)), np.asarray(whole))
    assert whole.mode == read(data).mode


@pytest.fixture
def alarm() -> Iterator[None]:
    """What waits for ever fails."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("name", ["pipe", "pipe.npy", "pipe.npz"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    source = npz if path.suffix else folder
    readers = [lambda: source.open_source(settings(source=source.__name__.split(".")[-1], path=path))]
    readers += [lambda: read_image(path), lambda: read_mask(path, 8)]
    for reader in readers:
        with pytest.raises(UserError, match=f"{path}"):
            reader()


def test_links_in_circles_are_skipped(tmp_path: Path, settings: Callable[..., DataSettings]) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(saved(np.full((8, 8, 3), number, np.uint8)))
    items = list(folder.open_source(settings(source="folder", path=tmp_path)).stream(1))
    assert [item.name for item in items if isinstance(item, Skipped)] == ["loop.png"]
    assert len(items) == 10


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_unpacks_without_a_bound_is_not_read(compression: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", compression) as archive:
        archive.writestr("a.png", saved(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(BadImage, match=f"compression {compression}"):
        Decoder(tmp_path / "x.zip", FORM).read("a.png")


def test_an_array_that_unpacks_to_too_much_is_not_copied(
    tmp_path: Path, settings: Callable[..., DataSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "LARGEST_COPY", 100_000)
    np.savez_compressed(tmp_path / "x.npz", np.zeros((100, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"x\.npz.*307328 bytes, more than 100000"):
        npz.open_source(settings(source="npz", path=tmp_path / "x.npz"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_four_megabytes_that_unpack_to_four_gigabytes_take_no_room(
    tmp_path: Path, settings: Callable[..., DataSettings]
) -> None:
    """Some 20 s to make the file."""
    packed = zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED)
    with packed, packed.open("x.npy", "w", force_zip64=True) as array:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (2**20, 64, 64, 1)}
        np.lib.format.write_array_header_1_0(array, shape)
        for _ in range(2**8):
            array.write(bytes(2**24))
    assert 4e6 < (tmp_path / "x.npz").stat().st_size < 5e6
    written = Path("/proc/self/io")
    before = int(written.read_text().split("wchar: ")[1].split()[0])
    with pytest.raises(UserError, match=r"x\.npz.*4294967"):
        npz.open_source(settings(source="npz", path=tmp_path / "x.npz"))
    assert int(written.read_text().split("wchar: ")[1].split()[0]) - before < 2**20
