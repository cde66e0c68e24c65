"""FFHQ (Karras et al. 2019): a folder or zip of its 70,000 faces, of the release at 1024 pixels or at 256.

The reduction is antialiased; other resizing shifts FID by more than methods differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.data.sources._files import Files
from cspipe.data.sources._published import Published, open_published

if TYPE_CHECKING:
    from cspipe.params import Data

READS_PATH = True
OFFICIAL_SPLIT = False
PAIRED = False
PUBLISHED = Published(
    pictures=70_000,
    licence="CC BY-NC-SA 4.0, of the data set; each picture has its own (github.com/NVlabs/ffhq-dataset)",
    files="the 70,000 files 00000.png ... 69999.png (images1024x1024, 89.1 GB, from github.com/NVlabs/ffhq-dataset, or "
    "the same at 256 pixels, about 7 GB)",
)


def open_source(data: Data) -> Files:
    """The faces below data.path. Raises UserError if they are not all there, or in another container."""
    return open_published(data, PUBLISHED)
