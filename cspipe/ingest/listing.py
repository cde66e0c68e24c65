"""Which pictures a folder or a zip holds: names alone, no pixels. Zips that could reach outside are refused."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cspipe.runtime.errors import UserError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True)
class Listing:
    """What a folder or zip holds."""

    pictures: list[str]
    """Names (posix, relative) of what should be pictures, sorted."""
    others: list[str]
    """Names of other files."""


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
    """No pipe or device; a link to nothing counts, so that it is reported as a picture that is missing."""
    return path.is_file() or not path.exists()


def _raise(error: OSError) -> None:
    """os.walk would leave out what it may not read."""
    raise error


def stamp_of(paths: Iterable[Path]) -> str:
    """A digest of files by name, size and time of change; it tells that they are the same without reading them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path))
        with suppress(FileNotFoundError):  # a link to nothing is told when it is read
            facts = path.stat()
            digest.update(f" {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def list_zip(path: Path, where: str) -> Listing:
    """The members of a zip.

    Raises UserError, starting with `where`, if a member is unsafe, encrypted or a duplicate, or the zip is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise UserError(f"{where} is a damaged zip ({error}); copy or download it again") from None
    seen: set[PurePosixPath] = set()
    for member in members:
        problem = _problem(member)
        place = PurePosixPath(member.filename)
        if problem is None and place in seen:
            problem = "stands in the zip twice"
        if problem is not None:
            raise UserError(f"{where}: member {member.orig_filename!r} {problem}; pack the zip anew")
        seen.add(place)
    return _sort_out([member.filename for member in members if not member.is_dir()])


def _problem(member: zipfile.ZipInfo) -> str | None:
    """Why a member cannot be trusted, or None.

    Nothing is ever extracted, but whoever makes such a zip expects it to be.
    """
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    if "\\" in name or "\0" in name:
        return "has a backslash or a null character in its name"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute path"
    if ".." in name.split("/"):
        return "leads out of the zip (..)"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.flag_bits & 0x1:
        return "is encrypted"
    return None


def _sort_out(names: list[str]) -> Listing:
    """Tell pictures from other files by their names; hidden files and macOS's shadows in zips are others."""
    pictures = {name for name in names if _is_picture(PurePosixPath(name))}
    return Listing(sorted(pictures), sorted(set(names) - pictures))


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return name.suffix.lower() in PICTURE_SUFFIXES and not hidden
