"""Pictures that are files of a folder or members of a zip, decoded on all cores."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cspipe.ingest.images import BadImage, Form, decode
from cspipe.ingest.listing import Listing, list_folder, list_zip, stamp_of
from cspipe.ingest.parallel import chunks, parallel_map
from cspipe.runtime.errors import UserError
from cspipe.sources import Facts, Picture, Skipped, Split

LARGEST_FILE = 2**28
"""Bytes; a larger file is refused unread."""


def list_pictures(path: Path, expected: str) -> Listing:
    """What the folder or zip `path` holds.

    Raises UserError if it is missing, unreadable, neither of the two, unsafe, or without pictures; it ends with
    `expected`, which says what to put there.
    """
    where = f"params.yaml: data.path {path}"
    try:
        listing = _list(path, where, expected)
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read {error.filename}; make it readable for this user") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{where} does not exist; correct the path, or {expected}") from None
    if not listing.pictures:
        raise UserError(f"{where} holds no pictures ({len(listing.others)} other files); {expected}")
    return listing


def _list(path: Path, where: str, expected: str) -> Listing:
    if path.is_dir():
        return list_folder(path)
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{where} is neither a folder nor a zip; {expected}")
    return list_zip(path, where)


def stamp_of_pictures(path: Path, names: Iterable[str]) -> str:
    """The stamp of files of the folder `path`, each by itself, or of the zip `path`."""
    return stamp_of((path / name for name in names) if path.is_dir() else [path])


@dataclass(frozen=True)
class Files:
    """A source of the named pictures of a folder or zip, in the order of `names`."""

    path: Path
    names: list[tuple[Split, str]]
    form: Form
    facts: Facts
    stamp: str
    decoder: Callable[[Path, Form], Decoder]
    """Decoder itself, or what makes more than one picture of a name."""

    @property
    def total(self) -> int:
        """Pictures in the stream, those skipped among them."""
        return len(self.names)

    def stream(self, workers: int | None, start: int = 0) -> Iterator[Picture | Skipped]:
        """Decode the pictures; a bad one is Skipped with the reason."""
        jobs = chunks(self.names[start:], self.form.shape)
        for decoded in parallel_map(partial(self.decoder, self.path, self.form), jobs, workers):
            yield from decoded


class Decoder:
    """Reads and decodes files; each process opens the zip for itself, as processes cannot share a file position."""

    def __init__(self, path: Path, form: Form) -> None:
        self.read: Callable[[str], bytes] = _FolderReader(path) if path.is_dir() else _ZipReader(path)
        self.form = form

    def __call__(self, names: Sequence[tuple[Split, str]]) -> list[Picture | Skipped]:
        """Decode the files of those names."""
        return [self._decode(split, name) for split, name in names]

    def _decode(self, split: Split, name: str) -> Picture | Skipped:
        try:
            return self.picture(split, name)
        except BadImage as error:
            return Skipped(name, str(error))
        except PermissionError:
            return Skipped(name, "no permission to read it")
        except FileNotFoundError:
            return Skipped(name, "a link to a missing file")

    def picture(self, split: Split, name: str) -> Picture:
        """What becomes of a file. Raises BadImage and OSError."""
        return Picture(split, decode(self.read(name), self.form))


class _FolderReader:
    """Bytes of the files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str) -> bytes:
        file = self.path / name
        _check_length(file.stat().st_size)
        return file.read_bytes()


class _ZipReader:
    """Bytes of the members of a zip, decompressed in memory."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)

    def __call__(self, name: str) -> bytes:
        try:
            member = self.zip.getinfo(name)
            _check_length(member.file_size)
            return self.zip.read(member)
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # every compression has its own kinds
            raise BadImage(f"damaged in the zip ({error})") from None


def _check_length(length: int) -> None:
    if length > LARGEST_FILE:
        raise BadImage(f"{length} bytes, more than {LARGEST_FILE}")
