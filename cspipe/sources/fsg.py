"""FSG, faces with and without something in front: two folders, `occluded/` and `clean/`, in a folder or zip.

The two images of a pair have the same name, but for the suffix. An image without its other half is skipped and
listed in the index; two images of one folder with the same name are refused, as either could be meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from cspipe.ingest.files import Decoder, Files, list_images, stamp_of_images
from cspipe.ingest.images import RESIZE, BadImage, Form, enlarges, fit, read
from cspipe.ingest.settings import DataSettings
from cspipe.ingest.source import Facts, PreparedImage, Split, divide, form_of, path_of
from cspipe.runtime.errors import UserError

READS_PATH = PAIRED = True
OFFICIAL_SPLIT = False
CLEAN, OCCLUDED = "clean", "occluded"
EXPECTED = (
    "put the folders occluded/ and clean/ there, the two images of a pair with the same name, such as "
    "occluded/0001.png and clean/0001.png (FSG has no public download: ask its authors, or take data.source "
    "celebahq256_occluded)"
)


def open_source(data: DataSettings) -> Files:
    """Return the pairs below data.path. Raises UserError if there are none, or a name stands for two images."""
    path = path_of(data)
    where = f"params.yaml: data.path {path}"
    listing = list_images(path, EXPECTED)
    images = listing.images
    clean, occluded = (_by_name(images, half, where) for half in (CLEAN, OCCLUDED))
    partners = {clean[name]: occluded[name] for name in clean.keys() & occluded.keys()}
    if not partners:
        raise UserError(
            f"{where} holds {len(clean)} clean and {len(occluded)} occluded images, but no pair; {EXPECTED}"
        )
    alone = sorted({*clean.values(), *occluded.values()} - partners.keys() - set(partners.values()))
    names = divide(partners, data.test_share, data.limit) + [("train", name) for name in alone]
    facts: Facts = {"licence": "not stated", "resize": RESIZE, "paired": "occluded", **listing.left_out}
    stamp = stamp_of_images(path, images)
    return Files(path, names, form_of(data), facts, stamp, partial(PairDecoder, partners))


def _by_name(images: list[str], half: str, where: str) -> dict[str, str]:
    """Return the images of the folder `half` by the name of the pair. Raises UserError if two have one name."""
    found: dict[str, str] = {}
    for image in images:
        path = PurePosixPath(image)
        if path.parts[0] != half:
            continue
        name = str(path.relative_to(half).with_suffix(""))
        if name in found:
            raise UserError(
                f"{where}: {found[name]} and {image} have the same name, so it is not clear which one belongs to a "
                "pair; remove or rename one"
            )
        found[name] = image
    return found


class PairDecoder(Decoder):
    """Decoder that reads both images of a pair."""

    def __init__(self, partners: Mapping[str, str], path: Path, form: Form) -> None:
        super().__init__(path, form)
        self.partners = partners

    def image(self, split: Split, name: str) -> PreparedImage:
        """Decode a pair by the name of its clean half. Raises OSError, and BadImage, also for unequal aspect ratios."""
        if name not in self.partners:
            raise BadImage(f"not in {CLEAN}/ and {OCCLUDED}/ both")
        clean = read(self.read(name))
        size, pixels, enlarged = clean.size, fit(clean, self.form), enlarges(clean, self.form)
        del clean  # one large image at a time
        try:
            occluded = read(self.read(self.partners[name]))
        except BadImage as error:
            raise BadImage(f"its other half {self.partners[name]}: {error}") from None
        if size[0] * occluded.height != size[1] * occluded.width:
            raise BadImage(f"{size} pixels, but its other half {occluded.size}: not one shape")
        return PreparedImage(split, pixels, fit(occluded, self.form), enlarged)
