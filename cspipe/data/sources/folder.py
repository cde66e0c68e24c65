"""Pictures of the user: a folder tree or a zip of PNG, JPEG and WebP files, decoded on all cores."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cspipe.data.images import RESIZE, BadImage, Form, decode
from cspipe.data.listing import Listing, list_folder, list_zip
from cspipe.data.parallel import chunks, parallel_map
from cspipe.data.sources import Picture, Skipped, Split, divide, form_of
from cspipe.errors import UserError

if TYPE_CHECKING:
    from cspipe.params import Data

READS_PATH = True
LARGEST_FILE = 2**28
"""Bytes; a larger file is refused unread."""


def open_source(data: Data) -> Files:
    """The pictures below data.path. Raises UserError if it is no folder or zip, unsafe, or without pictures."""
    assert data.path is not None, "params.yaml is refused without data.path"
    path, where = data.path, f"params.yaml: data.path {data.path}"
    try:
        listing = _list(path, where)
    except PermissionError as error:
        raise UserError(f"{where}: no permission to read {error.filename}; make it readable for this user") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{where} does not exist; correct it, or put the pictures there") from None
    if not listing.pictures:
        raise UserError(
            f"{where} holds no pictures ({listing.others} other files); put PNG, JPEG or WebP files there, or correct "
            "the path"
        )
    return Files(path, divide(listing.pictures, data.held_out, data.limit), listing.others, form_of(data))


def _list(path: Path, where: str) -> Listing:
    """What the folder or zip holds. Raises UserError, starting with `where`, and OSError."""
    if path.is_dir():
        return list_folder(path)
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise UserError(f"{where} is neither a folder nor a zip; name one with pictures in it")
    return list_zip(path, where)


@dataclass(frozen=True)
class Files:
    """A source of the named pictures of a folder or zip, in the order of `names`."""

    path: Path
    names: list[tuple[Split, str]]
    others: int
    """Files that are no pictures by their name."""
    form: Form

    @property
    def total(self) -> int:
        """Pictures in the stream, those skipped among them."""
        return len(self.names)

    @property
    def facts(self) -> Mapping[str, str | int]:
        """What the index tells of the source."""
        return {"licence": "not stated", "resize": RESIZE, "other_files": self.others}

    def stream(self, workers: int | None) -> Iterator[Picture | Skipped]:
        """Decode the pictures; a bad one is Skipped with the reason."""
        decoder, jobs = partial(Decoder, self.path, self.form), chunks(self.names, self.form.shape)
        for decoded in parallel_map(decoder, jobs, workers):
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
            return Picture(split, decode(self.read(name), self.form))
        except BadImage as error:
            return Skipped(name, str(error))
        except PermissionError:
            return Skipped(name, "no permission to read it")
        except FileNotFoundError:
            return Skipped(name, "a link to a missing file")


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
