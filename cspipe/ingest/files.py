"""Images that are files of a folder or members of a zip: which there are, and their decoding on all cores."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from cspipe.ingest.images import BadImage, Form, enlarges, fit, read
from cspipe.ingest.parallel import chunks, parallel_map
from cspipe.ingest.source import Facts, PreparedImage, Skipped, Split
from cspipe.runtime.errors import UserError
from cspipe.runtime.wording import printable

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
LARGEST_FILE = 2**28
"""Bytes; a larger file is refused unread."""
KINDS = 8
"""Kinds of files left out that are named."""
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions of which zipfile unpacks no more than is asked for; 4 KiB of bzip2 may become gigabytes at once."""


@dataclass(frozen=True)
class Listing:
    """What a folder or zip holds."""

    images: list[str]
    """Names (posix, relative) of what should be images, sorted."""
    others: list[str]
    """Names of other files."""

    @property
    def left_out(self) -> Facts:
        """What the index has of the other files: their number and, if there are any, that of each kind."""
        kinds = Counter(_kind(PurePosixPath(name)) for name in self.others).most_common()
        rest = sum(count for _, count in kinds[KINDS:])
        named = [f"{count} {kind}" for kind, count in kinds[:KINDS]] + [f"{rest} of more kinds"] * bool(rest)
        return {"other_files": len(self.others), **({"other_kinds": ", ".join(named)} if named else {})}


def list_images(path: Path, expected: str) -> Listing:
    """What the folder or zip `path` holds.

    Raises UserError if it is missing, unreadable, neither of the two, unsafe, or without images; it ends with
    `expected`, which says what to put there.
    """
    where = f"params.yaml: data.path {path}"
    try:
        listing = list_folder(path) if path.is_dir() else _list_zip(path, where, expected)
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read {error.filename}; make it readable for this user") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{where} does not exist; correct the path, or {expected}") from None
    if not listing.images:
        raise UserError(f"{where} holds no images ({len(listing.others)} other files); {expected}")
    return listing


def list_folder(path: Path) -> Listing:
    """The files below a folder, links to files and folders among them. Raises PermissionError."""
    return _sort_out(list(_walk(path)))


def _walk(path: Path) -> Iterator[str]:
    """Relative posix names of the files below `path`, each folder visited once even if links go round in circles."""
    visited: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        here = os.stat(folder)  # noqa: PTH116 (os.walk speaks strings)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders.sort()
        relative = Path(folder).relative_to(path)
        yield from ((relative / name).as_posix() for name in names if _is_file(Path(folder, name)))


def _is_file(path: Path) -> bool:
    """No pipe or device; a link to nothing counts, so that it is reported as an image that is missing."""
    return path.is_file() or not path.exists()


def _raise(error: OSError) -> None:
    """os.walk would leave out what it may not read."""
    raise error


def _list_zip(path: Path, where: str, expected: str) -> Listing:
    """The members of a zip; their names are never paths here, as nothing is extracted. Raises UserError and OSError."""
    neither = UserError(f"{where} is neither a folder nor a zip; {expected}")
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for its other end
        raise neither
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise neither
        try:
            members = zipfile.ZipFile(file).infolist()
        except zipfile.BadZipFile as error:
            raise UserError(f"{where} is a damaged zip ({error}); copy or download it again") from None
    return _sort_out([member.filename for member in members if not member.is_dir()])


def _sort_out(names: list[str]) -> Listing:
    """Tell images from other files by their names; hidden files and macOS's shadows in zips are others."""
    images = {name for name in names if _is_image(PurePosixPath(name))}
    return Listing(sorted(images), sorted(set(names) - images))


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not _is_hidden(name)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _kind(name: PurePosixPath) -> str:
    """Of a file that is left out: its ending, such as GIF."""
    return "hidden" if _is_hidden(name) else printable(name.suffix[1:].upper())[:20] or "without an ending"


def stamp_of(paths: Iterable[Path]) -> str:
    """A digest of files by name, size and time of change: whether they are the same, without reading them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path))
        with suppress(OSError):  # a link to nothing is reported when it is read
            facts = path.stat()
            digest.update(f" {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def stamp_of_images(path: Path, names: Iterable[str]) -> str:
    """The stamp of files of the folder `path`, each by itself, or of the zip `path`."""
    return stamp_of((path / name for name in names) if path.is_dir() else [path])


@dataclass(frozen=True)
class Files:
    """A source of the named images of a folder or zip, in the order of `names`."""

    path: Path
    names: list[tuple[Split, str]]
    form: Form
    facts: Facts
    stamp: str
    decoder: Callable[[Path, Form], Decoder]
    """Decoder itself, or what makes more than one image of a name."""

    @property
    def total(self) -> int:
        """Images in the stream, those skipped among them."""
        return len(self.names)

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        """Decode the images; a bad one is Skipped with the reason."""
        jobs = chunks(self.names[start:], self.form.shape)
        for decoded in parallel_map(partial(self.decoder, self.path, self.form), jobs, workers):
            yield from decoded


class Decoder:
    """Reads and decodes files; each process opens the zip for itself, as processes cannot share a file position."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path, self.form = path, form
        self.zip = None if path.is_dir() else zipfile.ZipFile(path)

    def __call__(self, names: Sequence[tuple[Split, str]]) -> list[PreparedImage | Skipped]:
        """Decode the files of those names."""
        return [self._decode(split, name) for split, name in names]

    def _decode(self, split: Split, name: str) -> PreparedImage | Skipped:
        try:
            return self.image(split, name)
        except BadImage as error:
            return Skipped(name, str(error))
        except PermissionError:
            return Skipped(name, "no permission to read it")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                raise
            return Skipped(name, "a link to a missing file")

    def image(self, split: Split, name: str) -> PreparedImage:
        """What becomes of a file. Raises BadImage and OSError."""
        return self.prepared(split, self.read(name))

    def prepared(self, split: Split, content: bytes) -> PreparedImage:
        """The image in a file's bytes. Raises BadImage."""
        image = read(content)
        return PreparedImage(split, fit(image, self.form), enlarged=enlarges(image, self.form))

    def read(self, name: str) -> bytes:
        """The bytes of a file, or of a member decompressed in memory. Raises BadImage and OSError."""
        if self.zip is None:
            return read_file(self.path / name)
        try:
            member = self.zip.getinfo(name)
            check_member(member, LARGEST_FILE)
            return self.zip.read(member)
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # every compression raises its own kinds
            raise BadImage(f"damaged in the zip ({error})") from None


def read_file(path: Path) -> bytes:
    """The bytes of an image's file. Raises OSError, and BadImage for a pipe, a device, and over LARGEST_FILE."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BadImage("no file, but a folder, pipe or device")
    _check_length(facts.st_size, LARGEST_FILE)
    return path.read_bytes()


def check_member(member: zipfile.ZipInfo, largest: int) -> None:
    """Raises BadImage for a member of a zip that unpacks to more bytes, or whose compression is not bounded."""
    _check_length(member.file_size, largest)
    if member.compress_type not in BOUNDED:
        raise BadImage(f"compression {member.compress_type}, which is not read from a zip; pack it with deflate")


def _check_length(length: int, largest: int) -> None:
    if length > largest:
        raise BadImage(f"{length} bytes, more than {largest}")
