"""Folders and zips of images."""

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from cspipe.ingest.files import Files
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import PreparedImage, Skipped
from cspipe.runtime.errors import UserError
from cspipe.sources.folder import open_source

Open = Callable[..., Files]


def image(number: int, kind: str = "PNG", size: tuple[int, int] = (20, 16)) -> bytes:
    """A file of one colour, told by `number`."""
    file = io.BytesIO()
    Image.new("RGB", size, (number, 0, 255 - number)).save(file, kind)
    return file.getvalue()


def fill(root: Path, names: Iterable[str]) -> Path:
    """Write an image for each name; its colour is its place."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image(number))
    return root


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def numbers(source: Files, workers: int = 1) -> list[tuple[str, int]]:
    """The splits and colours of a source's images."""
    items = list(source.stream(workers))
    assert all(isinstance(item, PreparedImage) for item in items), items
    return [(item.split, int(item.pixels[0, 0, 0])) for item in items if isinstance(item, PreparedImage)]


@pytest.fixture
def opened(settings: Callable[..., DataSettings]) -> Open:
    return lambda path, **values: open_source(settings(source="folder", path=path, **values))


NAMES = [f"{folder}/{n:02}.png" for folder in ("a", "b/c") for n in range(20)]


def test_split_is_by_the_hash_of_the_name(tmp_path: Path, opened: Open) -> None:
    ordered = sorted(range(40), key=lambda n: hashlib.sha256(NAMES[n].encode()).hexdigest())
    expected = [("test" if place < 10 else "train", n) for place, n in enumerate(ordered)]
    assert numbers(opened(fill(tmp_path, NAMES))) == expected
    limited = [("test" if place < 3 else "train", n) for place, n in enumerate(ordered[:12])]
    assert numbers(opened(tmp_path, limit=12)) == limited


def test_a_zip_gives_what_its_folder_gives_on_any_number_of_processes(tmp_path: Path, opened: Open) -> None:
    names = [f"{n:03}.png" for n in range(150)]
    folder = fill(tmp_path / "folder", names)
    members = {name: (folder / name).read_bytes() for name in reversed(names)}
    archive = pack(tmp_path / "images.zip", members)
    plain = numbers(opened(folder))
    assert len(plain) == 150
    assert numbers(opened(archive)) == plain
    assert numbers(opened(archive), workers=2) == plain
    assert numbers(opened(folder), workers=2) == plain


def test_which_files_are_images(tmp_path: Path, opened: Open) -> None:
    fill(tmp_path, ["a.png", "B.PNG"])
    for name, kind in {"c.jpg": "JPEG", "d.JPEG": "JPEG", "e.webp": "WEBP"}.items():
        (tmp_path / name).write_bytes(image(7, kind))
    for name in ("notes.txt", ".hidden.png", "__MACOSX/a.png", ".git/x.png", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    source = opened(tmp_path)
    assert sorted(name for _, name in source.names) == ["B.PNG", "a.png", "c.jpg", "d.JPEG", "e.webp"]
    assert source.facts["other_files"] == 5
    assert len(list(source.stream(1))) == 5


def test_links_are_followed_once(tmp_path: Path, opened: Open) -> None:
    elsewhere = fill(tmp_path / "elsewhere", ["1.png", "2.png"])
    root = fill(tmp_path / "root", ["3.png"])
    (root / "linked").symlink_to(elsewhere)
    (root / "4.png").symlink_to(elsewhere / "1.png")
    (elsewhere / "back").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    items = list(opened(root).stream(1))
    assert sum(isinstance(item, PreparedImage) for item in items) == 4
    assert [item for item in items if isinstance(item, Skipped)] == [Skipped("gone.png", "a link to a missing file")]


def test_files_too_large_are_not_read(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cspipe.ingest.files.LARGEST_FILE", 1000)
    fill(tmp_path / "root", NAMES[:4])
    (tmp_path / "root/large.png").write_bytes(image(1) + bytes(1000))
    packed = {path.name: path.read_bytes() for path in (tmp_path / "root").rglob("*.png")}
    for path in (tmp_path / "root", pack(tmp_path / "x.zip", packed)):
        skipped = [item for item in opened(path).stream(1) if isinstance(item, Skipped)]
        assert [item.name for item in skipped] == ["large.png"]
        assert "more than 1000" in skipped[0].reason


def test_damage_in_a_zip(tmp_path: Path, opened: Open) -> None:
    path = pack(tmp_path / "x.zip", {f"{n}.png": image(n) for n in range(8)})
    content = path.read_bytes()
    start = content.index(b"3.png") + 5 + 20
    path.write_bytes(content[:start] + b"\xff" * 8 + content[start + 8 :])
    skipped = [item for item in opened(path).stream(1) if isinstance(item, Skipped)]
    assert [item.name for item in skipped] == ["3.png"]
    assert "damaged in the zip" in skipped[0].reason
    path.write_bytes(content[: len(content) // 2] + content[-22:])
    with pytest.raises(UserError, match="damaged zip"):
        opened(path)


def test_what_cannot_be_a_source(tmp_path: Path, opened: Open) -> None:
    with pytest.raises(UserError, match="does not exist"):
        opened(tmp_path / "nowhere")
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(UserError, match="neither a folder nor a zip"):
        opened(tmp_path / "file.txt")
    with pytest.raises(UserError, match=r"no images \(1 other files\)"):
        opened(tmp_path)
    with pytest.raises(UserError, match="no images"):
        opened(pack(tmp_path / "empty.zip", {}))
    with pytest.raises(UserError, match="test split empty"):
        opened(fill(tmp_path / "one", ["a.png"]))


def test_no_permission_is_told(settings: Callable[..., DataSettings]) -> None:
    """A folder inside that may not be read is no reason to go on without its images."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = fill(Path(name), NAMES)
        folder.chmod(0o755)
        (folder / "b").chmod(0)
        data = settings(source="folder", path=folder)  # as root: the checkout may be closed to others
        try:
            os.seteuid(65534) if root else None
            with pytest.raises(UserError, match=f"no permission to read {folder / 'b'}"):
                open_source(data)
        finally:
            os.seteuid(0) if root else None
            (folder / "b").chmod(0o755)
