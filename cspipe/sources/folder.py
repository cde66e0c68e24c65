"""Images of the user: a folder tree or a zip of PNG, JPEG and WebP files."""

from __future__ import annotations

from cspipe.ingest.files import Decoder, Files, list_images, stamp_of_images
from cspipe.ingest.images import RESIZE
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import Facts, divide, form_of, path_of

READS_PATH = True
OFFICIAL_SPLIT = PAIRED = False


def open_source(data: DataSettings) -> Files:
    """Return the images below data.path. Raises UserError if it is no folder or zip, or has no images."""
    path = path_of(data)
    listing = list_images(path, "put PNG, JPEG or WebP files there, or name a folder or zip of them")
    names = divide(listing.images, data.test_share, data.limit)
    facts: Facts = {"licence": "not stated", "resize": RESIZE, **listing.left_out}
    stamp = stamp_of_images(path, listing.images)
    return Files(path, names, form_of(data), facts, stamp, Decoder)
