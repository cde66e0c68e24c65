"""CelebA with the crop of ScoreSDE (Song et al. 2021) and Min-SNR: the central 140 x 140 of the aligned image."""

from __future__ import annotations

from functools import partial

from cspipe.ingest.celeba import ALIGNED, LAST_TRAIN, open_celeba
from cspipe.ingest.images import Window

READS_PATH = OFFICIAL_SPLIT = True
PAIRED = False
TRAIN_IMAGES = LAST_TRAIN

open_source = partial(
    open_celeba, window=Window((178 - 140) // 2, (218 - 140) // 2, 140, ALIGNED), crop="central 140 x 140, as ScoreSDE"
)
