"""CelebA-HQ with something drawn in front of every face: pairs for de-occlusion, as FSG has no public download.

What is drawn, one of cspipe/data/occluders, and how, follows from the name of the file alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cspipe.data.occluders import occlude
from cspipe.data.seeds import derive_seed
from cspipe.runtime.registry import names_in
from cspipe.sources import Picture, Split
from cspipe.sources._files import Decoder, Files
from cspipe.sources._published import open_published
from cspipe.sources.celebahq256 import PUBLISHED

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

READS_PATH = True
OFFICIAL_SPLIT = False
PAIRED = True
OCCLUDERS = "cspipe.data.occluders"


def open_source(data: DataSettings) -> Files:
    """The faces below data.path, in pairs. Raises UserError if they are not all there, or in another container."""
    files = open_published(data, PUBLISHED)
    facts = {**files.facts, "paired": f"drawn: {', '.join(names_in(OCCLUDERS))}"}
    return replace(files, facts=facts, decoder=Occluder)


class Occluder(Decoder):
    """Makes a pair of every face."""

    def picture(self, split: Split, name: str) -> Picture:
        """A face, and the same one with something in front. Raises BadImage and OSError."""
        clean = super().picture(split, name).pixels
        rng = np.random.Generator(np.random.PCG64(derive_seed(0, "occluder", ascii(name))))
        kinds = names_in(OCCLUDERS)
        return Picture(split, clean, occlude(clean, kinds[rng.integers(len(kinds))], rng))
