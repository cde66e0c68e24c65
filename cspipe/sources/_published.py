"""What data sets of a published size share: the number of pictures is checked, other containers get an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cspipe.ingest.images import RESIZE
from cspipe.runtime.errors import UserError
from cspipe.sources import Facts, divide, form_of
from cspipe.sources._files import Decoder, Files, list_pictures, stamp_of_pictures

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

LMDB = (
    "an LMDB ({name}); write its values to files first, with the few lines that data/raw/README.md shows, and name "
    "their folder"
)
TFRECORDS = (
    "TFRecords ({name}); write them to files first, with `python dataset_tool.py unpack --tfrecord_dir=... "
    "--output_dir=...` of github.com/NVlabs/stylegan2-ada, and name that folder"
)


@dataclass(frozen=True)
class Published:
    """A data set as it was published."""

    pictures: int
    licence: str
    files: str
    """Which files there are, how large, and where from, in words that fit behind "put ... there"."""


def open_published(data: DataSettings, published: Published) -> Files:
    """The pictures of a data set in a folder or zip.

    Raises UserError as `list_pictures` does, for LMDB and TFRecord, and if the number of pictures is not the published
    one, unless data.limit asks for no more than there are.
    """
    assert data.path is not None, "params.yaml is refused without data.path"
    where, expected = f"params.yaml: data.path {data.path}", f"put {published.files} there"
    _refuse_container(data.path.name, where)
    try:
        listing = list_pictures(data.path, expected)
    except UserError:
        for name in data.path.rglob("*") if data.path.is_dir() else []:
            _refuse_container(name.name, where)
        raise
    if len(listing.pictures) < published.pictures:
        for other in listing.others:
            _refuse_container(PurePosixPath(other).name, where)
    check_count(len(listing.pictures), published.pictures, data.limit, where, expected)
    names = divide(listing.pictures, data.test_share, data.limit)
    facts: Facts = {"licence": published.licence, "resize": RESIZE, "other_files": len(listing.others)}
    stamp = stamp_of_pictures(data.path, listing.pictures)
    return Files(data.path, names, form_of(data), facts, stamp, Decoder)


def check_count(found: int, published: int, limit: int | None, where: str, expected: str) -> None:
    """Raises UserError if there are fewer pictures than published and data.limit does not allow it, or more.

    It starts with `where`; `expected` says what to put there.
    """
    if found > published:
        raise UserError(
            f"{where} holds {found} pictures, but {published} were published: something else is there too; name the "
            "folder of one release alone"
        )
    if found < published and (limit is None or limit > found):
        raise UserError(
            f"{where} holds {found} pictures, but {published} were published; {expected}, or set data.limit to at most "
            f"{found}"
        )


def _refuse_container(name: str, where: str) -> None:
    """Raises UserError for the name of a file that holds many pictures in a form that is not read here."""
    if name.endswith(".mdb"):
        raise UserError(f"{where} is {LMDB.format(name=name)}")
    if ".tfrecord" in name:
        raise UserError(f"{where} is of {TFRECORDS.format(name=name)}")
