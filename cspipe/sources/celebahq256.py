"""CelebA-HQ (Karras et al. 2018): a folder or zip of its 30,000 faces, at 256 pixels or more."""

from __future__ import annotations

from functools import partial

from cspipe.ingest.published import CELEBAHQ, open_published

READS_PATH = True
OFFICIAL_SPLIT = PAIRED = False
PUBLISHED = CELEBAHQ

open_source = partial(open_published, published=PUBLISHED)
