"""CelebA as in DDIM (Song et al. 2021): 128 x 128 around x 89, y 121 of the aligned image, resized bilinearly."""

from __future__ import annotations

from functools import partial

from PIL import Image

from cspipe.ingest.celeba import ALIGNED, LAST_TRAIN, open_celeba
from cspipe.ingest.images import Window

READS_PATH = OFFICIAL_SPLIT = True
PAIRED = False
TRAIN_IMAGES = LAST_TRAIN

open_source = partial(
    open_celeba, window=Window(89 - 64, 121 - 64, 128, ALIGNED), crop="128 x 128 around (89, 121), as DDIM",
    filter=Image.Resampling.BILINEAR,
)  # fmt: skip
