"""CelebA-HQ with something drawn in front of every face: pairs for de-occlusion, as FSG has no public download.

The file name alone decides which of the OCCLUDERS of cspipe/tasks/deocclude.py is drawn, and how.
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
    """Return the faces below data.path, in pairs. Raises UserError if some are missing or in another container."""
    files = open_published(data, PUBLISHED)
    return replace(files, facts={**files.facts, "paired": f"drawn: {', '.join(KINDS)}"}, decoder=PairMaker)


class PairMaker(Decoder):
    """Decoder that makes a pair of every face: the face, and the same one with an occluder."""

    def image(self, split: Split, name: str) -> PreparedImage:
        """Decode a face, and draw an occluder in front of a copy. Raises BadImage and OSError."""
        made = super().image(split, name)
        rng = np.random.Generator(np.random.PCG64(derive_seed(0, "occluder", ascii(name))))
        layer = OCCLUDERS[KINDS[rng.integers(len(KINDS))]](made.pixels.shape[-1], rng)
        return replace(made, paired=put_in_front(made.pixels, layer))
