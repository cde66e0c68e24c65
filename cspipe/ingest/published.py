"""Data sets of a published size: the number of images is checked, and LMDB and TFRecord are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cspipe.ingest.files import Decoder, Files, list_images, stamp_of_images
from cspipe.ingest.images import RESIZE
from cspipe.ingest.source import Facts, divide, form_of, path_of
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings


@dataclass(frozen=True)
class Published:
    """The number of images, licence and files of a data set as it was published."""

    images: int
    licence: str
    files: str
    """Names, sizes and origin of the files, in words that fit into "put ... there"."""


CELEBAHQ = Published(
    images=30_000,
    licence="CC BY-NC 4.0, for non-commercial research (github.com/tkarras/progressive_growing_of_gans)",
    files="the 30,000 PNG or JPEG files (such as CelebA-HQ-img of CelebAMask-HQ, 0.jpg ... 29999.jpg, from "
    "github.com/switchablenorms/CelebAMask-HQ, about 3 GB with its masks: take that folder alone)",
)
"""CelebA-HQ (Karras et al. 2018), at 256 pixels or more."""


def open_published(data: DataSettings, published: Published) -> Files:
    """Return the images of a published data set in the folder or zip data.path.

    Raises UserError as `list_images` does, for LMDB and TFRecord, and if the number of images is not the published
    one, unless data.limit asks for no more than there are.
    """
    path = path_of(data)
    where, expected = f"params.yaml: data.path {path}", f"put {published.files} there"
    _refuse_container(path.name, where)
    try:
        listing = list_images(path, expected)
    except UserError:
        for name in path.rglob("*") if path.is_dir() else []:
            _refuse_container(name.name, where)
        raise
    if len(listing.images) < published.images:
        for other in listing.others:
            _refuse_container(PurePosixPath(other).name, where)
    check_count(len(listing.images), published.images, data.limit, where, expected)
    names = divide(listing.images, data.test_share, data.limit)
    facts: Facts = {"licence": published.licence, "resize": RESIZE, **listing.left_out}
    stamp = stamp_of_images(path, listing.images)
    return Files(path, names, form_of(data), facts, stamp, Decoder)


def check_count(found: int, published: int, limit: int | None, where: str, expected: str) -> None:
    """Raise UserError if there are more images than published, or fewer and data.limit does not allow it.

    The message starts with `where`; `expected` says what to put there.
    """
    if found > published:
        raise UserError(
            f"{where} holds {found} images, but {published} were published: something else is there too; name the "
            "folder of one release alone"
        )
    if found < published and (limit is None or limit > found):
        raise UserError(
            f"{where} holds {found} images, but {published} were published; {expected}, or set data.limit to at most "
            f"{found}"
        )


def _refuse_container(name: str, where: str) -> None:
    """Raise UserError if `name` is a file of LMDB or TFRecord, which hold many images and are not read here."""
    if name.endswith(".mdb") or ".tfrecord" in name:
        raise UserError(
            f"{where}: {name} is LMDB or TFRecord, which are not read; data/raw/README.md shows how to write their "
            "images to files; name the folder of these"
        )
