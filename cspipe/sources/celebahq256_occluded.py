"""CelebA-HQ with something drawn in front of every face: pairs for de-occlusion, as FSG has no public download.

What is drawn, one of the OCCLUDERS of cspipe/tasks/deocclude.py, and how, follows from the name of the file alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cspipe.data.seeds import derive_seed
from cspipe.ingest.files import Decoder, Files
from cspipe.ingest.published import CELEBAHQ, open_published
from cspipe.ingest.source import PreparedImage, Split
from cspipe.tasks.deocclude import OCCLUDERS, put_in_front

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = PAIRED = True
OFFICIAL_SPLIT = False
PUBLISHED = CELEBAHQ
KINDS = sorted(OCCLUDERS)


def open_source(data: DataSettings) -> Files:
    """The faces below data.path, in pairs. Raises UserError if they are not all there, or in another container."""
    files = open_published(data, PUBLISHED)
    return replace(files, facts={**files.facts, "paired": f"drawn: {', '.join(KINDS)}"}, decoder=PairMaker)


class PairMaker(Decoder):
    """Makes a pair of every face."""

    def image(self, split: Split, name: str) -> PreparedImage:
        """A face, and the same one with something in front. Raises BadImage and OSError."""
        made = super().image(split, name)
        rng = np.random.Generator(np.random.PCG64(derive_seed(0, "occluder", ascii(name))))
        layer = OCCLUDERS[KINDS[rng.integers(len(KINDS))]](made.pixels.shape[-1], rng)
        return replace(made, paired=put_in_front(made.pixels, layer))
