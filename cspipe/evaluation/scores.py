"""Distances between sets of images in the features of a net, computed by torch-fidelity.

KID: Binkowski et al. 2018 (unbiased, so it may be below 0). Frechet distance: Heusel et al. 2017 (biased upwards with
few images). Precision and recall: Kynkaanniemi et al. 2019, k = 3. Inception score: Salimans et al. 2016.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_featuresdict_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_featuresdict_to_metric
from torch_fidelity.metric_kid import kid_featuresdict_to_metric
from torch_fidelity.metric_prc import prc_featuresdict_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import get_featuresdict_from_dataset

from cspipe.evaluation.extractors import Extractor, build
from cspipe.evaluation.image_sets import ImageSet
from cspipe.runtime.errors import UserError
from cspipe.runtime.provenance import code_ids

Features = dict[str, Tensor]
"""By the name of the layer, (N, features)."""
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

    def layer(self, metric: str) -> str:
        """The layer that a metric reads: "isc" the logits, "fid", as the others, the features."""
        layer: str = FEATURE_EXTRACTORS_REGISTRY[self.extractor.name].get_default_feature_layer_for_metric(metric)
        return layer

    @cached_property
    def net(self) -> FeatureExtractorBase:
        """The extractor's net, with both layers."""
        return build(self.extractor, (self.layer("fid"), self.layer("isc")), self.device)

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

    Raises UserError with too few images.
    """
    _check(generated, reference)
    x, y, layer = _features(generated, measure), _cached_features(reference, measure), measure.layer("fid")
    splits = max(1, min(MOST_SPLITS, len(generated) // PER_SPLIT))
    # save_cpu_ram: precision and recall by blocks
    prc = prc_featuresdict_to_metric(x, y, layer, save_cpu_ram=True, prc_batch_size=PRC_BLOCK, verbose=False)
    isc = isc_featuresdict_to_metric(x, measure.layer("isc"), isc_splits=splits, verbose=False)
    return {
        **_distances(x, y, measure, measure.subset_size(generated, reference)),
        "precision": prc["precision"],
        "recall": prc["recall"],
        "inception_score": isc["inception_score_mean"],
    }


def bracket(held_out: ImageSet, reference: ImageSet, noise: ImageSet, measure: Measure) -> dict[str, float]:
    """What scores lie between: real images that are not the reference, and uniform noise, against the reference."""
    found: dict[str, float] = {}
    y = _cached_features(reference, measure)
    for name, images in (("heldout", held_out), ("noise", noise)):
        _check(images, reference)
        distances = _distances(_cached_features(images, measure), y, measure, measure.subset_size(images, reference))
        found |= {f"{name}_{key}": distances[key] for key in ("kid", "frechet")}
    return found


def _check(generated: ImageSet, reference: ImageSet) -> None:
    """Raises UserError with too few images."""
    if min(len(generated), len(reference)) < FEWEST:
        raise UserError(
            f"scores compare at least {FEWEST} images with {FEWEST}, here {len(generated)} with {len(reference)}; "
            "raise data.limit, data.held_out, sample.images or evaluate.images in params.yaml"
        )


def _distances(x: Features, y: Features, measure: Measure, subset_size: int) -> dict[str, float]:
    """KID, its spread and the Frechet distance."""
    layer, sizes = measure.layer("fid"), {"kid_subsets": measure.kid_subsets, "kid_subset_size": subset_size}
    statistics = (fid_featuresdict_to_statistics(features, layer) for features in (x, y))
    fid = fid_statistics_to_metric(*statistics, verbose=False)
    kid = kid_featuresdict_to_metric(x, y, layer, **sizes, verbose=False)
    return {
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "frechet": fid["frechet_inception_distance"],
    }


def _cached_features(images: ImageSet, measure: Measure) -> Features:
    """Features of images that others are compared with too, kept in a file whose name ends with its sha256.

    Not by torch-fidelity, whose cache is pickles, which run code when they are read.
    """
    name = measure.cache_name(images)
    for path in measure.cache.glob(f"{name}-*.safetensors"):
        content = path.read_bytes()
        with suppress(SafetensorError):
            if path.stem == f"{name}-{hashlib.sha256(content).hexdigest()}":
                return load(content)
        print(f"{path}: damaged, so it is not used; its features are computed again", file=sys.stderr)
    features = _features(images, measure)
    content = save(features)
    measure.cache.mkdir(parents=True, exist_ok=True)
    (measure.cache / f"{name}-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    return features


def _features(images: ImageSet, measure: Measure) -> Features:
    """Features computed without worker processes (save_cpu_ram): images are in memory or mapped already."""
    cuda = measure.device.type == "cuda"
    features: Features = get_featuresdict_from_dataset(
        images, measure.net, measure.batch, cuda, save_cpu_ram=True, verbose=False
    )
    return features
