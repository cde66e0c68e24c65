"""CelebA-HQ (Karras et al. 2018): a folder or zip of its 30,000 faces, at 256 pixels or more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.sources._files import Files
from cspipe.sources._published import Published, open_published

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = True
OFFICIAL_SPLIT = False
PAIRED = False
PUBLISHED = Published(
    pictures=30_000,
    licence="CC BY-NC 4.0, for non-commercial research (github.com/tkarras/progressive_growing_of_gans)",
    files="the 30,000 PNG or JPEG files (such as CelebA-HQ-img of CelebAMask-HQ, 0.jpg ... 29999.jpg, from "
    "github.com/switchablenorms/CelebAMask-HQ, about 3 GB with its masks: take that folder alone)",
)


def open_source(data: DataSettings) -> Files:
    """The faces below data.path. Raises UserError if they are not all there, or in another container."""
    return open_published(data, PUBLISHED)
