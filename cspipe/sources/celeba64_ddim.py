"""CelebA with the crop of DDIM (Song et al. 2021): 128 x 128 around x 89, y 121 of the aligned picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.ingest.images import Window
from cspipe.sources._celeba import ALIGNED, LAST_TRAIN, open_celeba
from cspipe.sources._files import Files

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = True
OFFICIAL_SPLIT = True
PAIRED = False
TRAIN_PICTURES = LAST_TRAIN


def open_source(data: DataSettings) -> Files:
    """The faces in the folder data.path. Raises UserError if they are not there, or not the published ones."""
    return open_celeba(data, Window(89 - 64, 121 - 64, 128, ALIGNED), "128 x 128 around (89, 121), as DDIM")
