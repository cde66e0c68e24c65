"""Distances between sets of images in the features of a net, computed by torch-fidelity.

KID: Binkowski et al. 2018 (unbiased, so it may be below 0). Frechet distance: Heusel et al. 2017 (biased upwards with
few images). Precision and recall: Kynkaanniemi et al. 2019, k = 3. Inception score: Salimans et al. 2016.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
import torch_fidelity

from cspipe.evaluation.extractors import Extractor
from cspipe.evaluation.image_sets import ImageSet
from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import code_ids

FEWEST = 4
"""Images per set: precision and recall look at the third neighbour."""
PER_SPLIT, MOST_SPLITS = 500, 10
"""Inception score: the usual 10 splits need 5,000 images; with fewer, splits of a few images would lower it."""
PRC_BLOCK = 2000
"""Images whose distances to all others are in memory at once: 0.8 GB for 50,000."""


@dataclass(frozen=True)
class Measure:
    """How sets of images are compared."""

    extractor: Extractor
    batch: int
    """Images per pass of the extractor."""
    kid_subsets: int
    kid_subset_size: int
    """Images per subset, or all if a set has fewer."""
    device: torch.device
    cache: Path
    """Folder of features that other runs can use again."""

    def subset_size(self, a: ImageSet, b: ImageSet) -> int:
        """Images per KID subset of these sets."""
        return min(self.kid_subset_size, len(a), len(b))

    def cache_name(self, images: ImageSet) -> str:
        """A name for the features of a set: it changes with everything they depend on."""
        device = torch.get_num_threads() if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        facts = [images.sha256, len(images), self.extractor.sha256, self.batch, device, version("torch")]
        return hashlib.sha256(json.dumps([facts, code_ids("cspipe/evaluation")]).encode()).hexdigest()[:32]


def score(generated: ImageSet, reference: ImageSet, measure: Measure) -> dict[str, float]:
    """All scores of generated against real images, from one pass over each; the reference's features are cached.

    Call it before `bracket`, which reads some of the features that this caches. Raises UserError with too few images.
    """
    splits = max(1, min(MOST_SPLITS, len(generated) // PER_SPLIT))
    found = _compare(generated, reference, measure, None, isc=True, isc_splits=splits, prc=True)
    return {
        "kid": found["kernel_inception_distance_mean"],
        "kid_std": found["kernel_inception_distance_std"],
        "frechet": found["frechet_inception_distance"],
        "precision": found["precision"],
        "recall": found["recall"],
        "inception_score": found["inception_score_mean"],
    }


def bracket(held_out: ImageSet, reference: ImageSet, noise: ImageSet, measure: Measure) -> dict[str, float]:
    """What scores lie between: real images that are not the reference, and uniform noise, against the reference."""
    distances = {}
    for name, images in (("heldout", held_out), ("noise", noise)):
        found = _compare(images, reference, measure, measure.cache_name(images))
        distances[f"{name}_kid"] = found["kernel_inception_distance_mean"]
        distances[f"{name}_frechet"] = found["frechet_inception_distance"]
    return distances


def _compare(
    generated: ImageSet, reference: ImageSet, measure: Measure, cache_name: str | None, **metrics: Any
) -> dict[str, float]:
    """torch-fidelity's numbers, KID and Frechet distance and the metrics asked for, under its names.

    Its key of cached features is the name alone, so that must stand for the contents. save_cpu_ram loads images without
    worker processes (they are in memory or mapped already) and computes precision and recall by blocks, here of
    PRC_BLOCK images.
    """
    if min(len(generated), len(reference)) < FEWEST:
        raise UserError(
            f"scores compare at least {FEWEST} images with {FEWEST}, here {len(generated)} with {len(reference)}; "
            "raise data.limit, data.held_out, sample.images or evaluate.images in params.yaml"
        )
    _drop_damaged(measure, generated, reference)
    found: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=generated,
        input2=reference,
        input1_cache_name=cache_name,
        input2_cache_name=measure.cache_name(reference),
        cache_root=str(measure.cache),
        feature_extractor=measure.extractor.name,
        feature_extractor_weights_path=str(measure.extractor.weights),
        fid=True,
        kid=True,
        kid_subsets=measure.kid_subsets,
        kid_subset_size=measure.subset_size(generated, reference),
        batch_size=measure.batch,
        cuda=measure.device.type == "cuda",
        save_cpu_ram=True,
        prc_batch_size=PRC_BLOCK,
        verbose=False,
        **metrics,
    )
    return found


def _drop_damaged(measure: Measure, *sets: ImageSet) -> None:
    """Remove cached features of these sets whose bytes differ from the checksums in the file; torch.load asks none."""
    for path in (path for images in sets for path in measure.cache.glob(f"{measure.cache_name(images)}-*.pt")):
        try:
            with ZipFile(path) as file:
                damaged = file.testzip()
        except Exception as error:  # every damage raises its own kind
            damaged = str(error)
        if damaged:
            print(f"{path}: removed, not used (damaged: {damaged}); its features are made again", file=sys.stderr)
            path.unlink(missing_ok=True)
