"""FFHQ (Karras et al. 2019): a folder or zip of its 70,000 faces, of the release at 1024 pixels or at 256.

The reduction is antialiased; other resizing shifts FID by more than methods differ. If ffhq-dataset-v2.json is in the
folder too, every file is compared with the md5 in that list, and a file that differs is skipped with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cspipe.ingest.files import Decoder, Files
from cspipe.ingest.images import BadImage, Form
from cspipe.ingest.published import Published, open_published
from cspipe.ingest.source import PreparedImage, Split
from cspipe.runtime.errors import UserError

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = True
OFFICIAL_SPLIT = PAIRED = False
HASHES = "ffhq-dataset-v2.json"
PUBLISHED = Published(
    images=70_000,
    licence="CC BY-NC-SA 4.0, of the data set; each image has its own (github.com/NVlabs/ffhq-dataset)",
    files="the 70,000 files 00000.png ... 69999.png (images1024x1024, 89.1 GB, from github.com/NVlabs/ffhq-dataset, or "
    "the same at 256 pixels, about 7 GB)",
)


def open_source(data: DataSettings) -> Files:
    """Return the faces below data.path. Raises UserError if some are missing or in another container."""
    files = open_published(data, PUBLISHED)
    if not (files.path / HASHES).is_file():
        return files
    facts = {**files.facts, "hashes": f"md5 of every file, as in {HASHES}"}
    return replace(files, facts=facts, decoder=partial(Checked, _md5s(files.path / HASHES)))


def _md5s(path: Path) -> dict[str, str]:
    """Read the md5 of each image by its file name, such as 00000.png. Raises UserError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).values()
        images = [entry["image"] for entry in entries]
        return {PurePosixPath(image["file_path"]).name: str(image["file_md5"]) for image in images}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not FFHQ's list of files ({error!r}); download it again, or take it away") from None


class Checked(Decoder):
    """Decoder that refuses files whose md5 is not the published one."""

    def __init__(self, md5s: Mapping[str, str], path: Path, form: Form) -> None:
        super().__init__(path, form)
        self.md5s = md5s

    def image(self, split: Split, name: str) -> PreparedImage:
        """Decode a file. Raises OSError, and BadImage if it is not the published one."""
        published, content = self.md5s.get(PurePosixPath(name).name), self.read(name)
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != published:
            raise BadImage(f"its md5 is not that of {HASHES}")
        return self.prepared(split, content)
