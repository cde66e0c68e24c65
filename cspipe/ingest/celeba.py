"""Code that the sources of CelebA (Liu et al. 2015, aligned images) share; they differ in crop and filter.

The official split is kept: its train images are the train split, its test images the test split. The validation
images are left out, as DDIM and its successors do.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from cspipe.ingest.files import Decoder, Files, list_images, stamp_of_images
from cspipe.ingest.images import Window
from cspipe.ingest.published import check_count
from cspipe.ingest.source import Facts, Split, divide_officially, form_of, path_of
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

ALIGNED = (178, 218)
"""Width and height of an aligned image, in pixels."""
IMAGES, LAST_TRAIN, LAST_VALIDATION = 202_599, 162_770, 182_637
"""Numbers of the last image of all, of the train split, and of the validation split, which lies between the two."""
FOLDER, ZIP = "img_align_celeba", "img_align_celeba.zip"
EXPECTED = (
    f"put {ZIP} (1,443,490,838 bytes, md5 00d2c5bc6d35e252742224ab0c1e8fcb) or its folder {FOLDER} "
    "(000001.jpg ... 202599.jpg) into that folder; mmlab.ie.cuhk.edu.hk/projects/CelebA.html says where they are"
)


def open_celeba(
    data: DataSettings, window: Window, crop: str, filter: Image.Resampling = Image.Resampling.BICUBIC
) -> Files:
    """Return the images in the folder data.path, cut out by `window` (in words: `crop`), resized by Pillow's `filter`.

    Raises UserError if data.crop is not center, or if images are missing or there are others. Fewer images are allowed
    if data.limit is at most their number.
    """
    path = path_of(data)
    if data.crop != "center":
        raise UserError(f"params.yaml: data.crop must be center with {data.source}, whose name says how it is cropped")
    where = f"params.yaml: data.path {path}"
    images = _images(path, where)
    check_count(len(images), IMAGES, data.limit, where, EXPECTED)
    splits = {name: split for name in images if (split := _split(int(name[:6])))}
    facts: Facts = {
        "licence": "non-commercial research alone (mmlab.ie.cuhk.edu.hk/projects/CelebA.html)",
        "crop": crop,
        "resize": f"{filter.name.lower()}, antialiased",
        "comparable": f"FID with results on {data.source} alone: other crops of CelebA are other data sets",
        "validation_left_out": len(images) - len(splits),
    }
    place, form = _place(path), replace(form_of(data), crop=window, filter=filter)
    names = [(split, images[name]) for split, name in divide_officially(splits, data.limit)]
    return Files(place, names, form, facts, stamp_of_images(place, images.values()), Decoder)


def _place(path: Path) -> Path:
    """Return the folder of the images, or the zip if there is no such folder."""
    return path / FOLDER if (path / FOLDER).is_dir() else path / ZIP


def _images(path: Path, where: str) -> dict[str, str]:
    """Map file names (000001.jpg) to names in the folder or zip. Raises UserError if it is missing or names repeat."""
    place = _place(path)
    if not place.exists():
        raise UserError(f"{where} has neither {FOLDER} nor {ZIP}; {EXPECTED}")
    found: dict[str, str] = {}
    for image in list_images(place, EXPECTED).images:
        name = PurePosixPath(image).name
        if re.fullmatch(r"\d{6}\.jpg", name) is None:
            continue
        if name in found:
            raise UserError(f"{where}: {name} is there twice ({found[name]}, {image}); remove one of them")
        found[name] = image
    return found


def _split(number: int) -> Split | None:
    """Return the official split of image `number`, as in list_eval_partition.txt; None for validation images."""
    return "train" if number <= LAST_TRAIN else "test" if number > LAST_VALIDATION else None
