"""Pictures of the user: a folder tree or a zip of PNG, JPEG and WebP files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.ingest.images import RESIZE
from cspipe.sources import Facts, divide, form_of
from cspipe.sources._files import Decoder, Files, list_pictures, stamp_of_pictures

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = True
OFFICIAL_SPLIT = False
PAIRED = False


def open_source(data: DataSettings) -> Files:
    """The pictures below data.path. Raises UserError if it is no folder or zip, unsafe, or without pictures."""
    assert data.path is not None, "params.yaml is refused without data.path"
    listing = list_pictures(data.path, "put PNG, JPEG or WebP files there, or name a folder or zip of them")
    names = divide(listing.pictures, data.test_share, data.limit)
    facts: Facts = {"licence": "not stated", "resize": RESIZE, "other_files": len(listing.others)}
    stamp = stamp_of_pictures(data.path, listing.pictures)
    return Files(data.path, names, form_of(data), facts, stamp, Decoder)
