"""Images that are files of a folder or members of a zip: listing them, and decoding them on all cores."""

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
"""Size limit of an image file, in bytes; a larger file is refused unread."""
KINDS = 8
"""Number of kinds of left-out files that are named, the most frequent first."""
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Zip compressions of which zipfile unpacks no more than requested; 4 KiB of bzip2 may become gigabytes at once."""


@dataclass(frozen=True)
class Listing:
    """The files in a folder or zip."""

    images: list[str]
    """Relative POSIX names of the image files, by their suffix; sorted."""
    others: list[str]
    """Relative POSIX names of all other files, sorted."""

    @property
    def left_out(self) -> Facts:
        """Facts for the index about the other files: their number and, if there are any, the number of each kind."""
        kinds = Counter(_kind(PurePosixPath(name)) for name in self.others).most_common()
        rest = sum(count for _, count in kinds[KINDS:])
        named = [f"{count} {kind}" for kind, count in kinds[:KINDS]] + [f"{rest} of more kinds"] * bool(rest)
        return {"other_files": len(self.others), **({"other_kinds": ", ".join(named)} if named else {})}


def list_images(path: Path, expected: str) -> Listing:
    """List the files in the folder or zip `path`.

    Raises UserError if it is missing, unreadable, damaged, neither a folder nor a zip, or without images; `expected`
    says for the message what to put there.
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
    """List the files below a folder, following links to files and folders. Raises PermissionError."""
    return _sort_out(list(_walk(path)))


def _walk(path: Path) -> Iterator[str]:
    """Yield relative POSIX names of the files below `path`; each folder is visited once, even if links form a cycle."""
    visited: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(path, onerror=_raise, followlinks=True):
        here = os.stat(folder)  # noqa: PTH116 (os.walk yields strings)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders.sort()
        relative = Path(folder).relative_to(path)
        yield from ((relative / name).as_posix() for name in names if _is_file(Path(folder, name)))


def _is_file(path: Path) -> bool:
    """Whether `path` is a file, no pipe or device. A broken link counts too, to be reported as a missing image."""
    return path.is_file() or not path.exists()


def _raise(error: OSError) -> None:
    """Raise the error of a folder that cannot be read: by default os.walk leaves the folder out."""
    raise error


def _list_zip(path: Path, where: str, expected: str) -> Listing:
    """List the members of a zip; none is extracted, so their names are never paths. Raises UserError and OSError."""
    neither = UserError(f"{where} is neither a folder nor a zip; {expected}")
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
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
    """Separate images from other files by name; hidden files and macOS's __MACOSX members of zips are others."""
    images = {name for name in names if _is_image(PurePosixPath(name))}
    return Listing(sorted(images), sorted(set(names) - images))


def _is_image(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not _is_hidden(name)


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def _kind(name: PurePosixPath) -> str:
    """Return the kind of a left-out file: its suffix in capitals, such as GIF, or that it is hidden or has none."""
    return "hidden" if _is_hidden(name) else printable(name.suffix[1:].upper())[:20] or "without an ending"


def stamp_of(paths: Iterable[Path]) -> str:
    """Return a digest of the names, sizes and modification times of files, to detect changes without reading them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path))
        with suppress(OSError):  # a broken link is reported when it is read
            facts = path.stat()
            digest.update(f" {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def stamp_of_images(path: Path, names: Iterable[str]) -> str:
    """Return the stamp of the named files in the folder `path`, or of the zip `path` as one file."""
    return stamp_of((path / name for name in names) if path.is_dir() else [path])


@dataclass(frozen=True)
class Files:
    """Source of the images of a folder or zip whose splits and names `names` lists, in that order."""

    path: Path
    names: list[tuple[Split, str]]
    form: Form
    facts: Facts
    stamp: str
    decoder: Callable[[Path, Form], Decoder]
    """Makes the decoder of each process: Decoder, or a subclass that makes pairs or compares checksums."""

    @property
    def total(self) -> int:
        """Number of images in the stream, including those skipped."""
        return len(self.names)

    def stream(self, workers: int | None, start: int = 0) -> Iterator[PreparedImage | Skipped]:
        """Yield the decoded images from item `start` on; a bad image becomes a Skipped with the reason."""
        jobs = chunks(self.names[start:], self.form.shape)
        for decoded in parallel_map(partial(self.decoder, self.path, self.form), jobs, workers):
            yield from decoded


class Decoder:
    """Reads and decodes files; each process opens the zip for itself, as processes cannot share a file position."""

    def __init__(self, path: Path, form: Form) -> None:
        self.path, self.form = path, form
        self.zip = None if path.is_dir() else zipfile.ZipFile(path)

    def __call__(self, names: Sequence[tuple[Split, str]]) -> list[PreparedImage | Skipped]:
        """Decode the named files, each for its split."""
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
        """Read and decode one file. Raises BadImage and OSError."""
        return self.prepared(split, self.read(name))

    def prepared(self, split: Split, content: bytes) -> PreparedImage:
        """Decode a file's bytes and bring the image to the form. Raises BadImage."""
        image = read(content)
        return PreparedImage(split, fit(image, self.form), enlarged=enlarges(image, self.form))

    def read(self, name: str) -> bytes:
        """Return the bytes of a file, or of a zip member decompressed in memory. Raises BadImage and OSError."""
        if self.zip is None:
            return read_file(self.path / name)
        try:
            member = self.zip.getinfo(name)
            check_member(member, LARGEST_FILE)
            return self.zip.read(member)
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # every compression raises its own exceptions
            raise BadImage(f"damaged in the zip ({error})") from None


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file. Raises OSError; BadImage for a folder, pipe, device or over LARGEST_FILE."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BadImage("no file, but a folder, pipe or device")
    _check_length(facts.st_size, LARGEST_FILE)
    return path.read_bytes()


def check_member(member: zipfile.ZipInfo, largest: int) -> None:
    """Raise BadImage if a zip member unpacks to more than `largest` bytes, or its compression is not in BOUNDED."""
    _check_length(member.file_size, largest)
    if member.compress_type not in BOUNDED:
        raise BadImage(f"compression {member.compress_type}, which is not read from a zip; pack it with deflate")


def _check_length(length: int, largest: int) -> None:
    if length > largest:
        raise BadImage(f"{length} bytes, more than {largest}")
