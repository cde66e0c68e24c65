"""Scores that compare sets of images by the features of a net, with the values of torch-fidelity.

KID: Binkowski et al. 2018 (unbiased, so it may be below 0). Frechet distance: Heusel et al. 2017 (biased upwards with
few images). Precision and recall: Kynkaanniemi et al. 2019, k = 3. Inception score: Salimans et al. 2016. KID and the
Inception score are torch-fidelity's own; the scores that take it minutes with 50,000 images are computed here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.utils.data import Subset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import get_featuresdict_from_dataset

from cspipe.evaluation.extractors import Extractor, build
from cspipe.evaluation.frechet import frechet
from cspipe.evaluation.image_sets import ImageSet
from cspipe.evaluation.precision_recall import precision_recall
from cspipe.evaluation.settings import FEWEST
from cspipe.runtime.collectives import all_agree, gathered
from cspipe.runtime.device import device_name
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.provenance import code_ids
from cspipe.runtime.ranks import rank, world

Features = dict[str, Tensor]
"""Features (N, D) of N images, by the name of the layer."""
PER_SPLIT, MOST_SPLITS = 500, 10
"""Least images per split of the Inception score, and most splits: splits of a few images would lower the score.

The usual 10 splits need 5,000 images.
"""
SEED = 2020
"""Seed of torch-fidelity, which decides which images are in which split."""


@dataclass(frozen=True)
class Measure:
    """Settings of a comparison of sets of images: extractor, KID subsets, device, cache."""

    extractor: Extractor
    batch: int
    """Images per pass of the extractor."""
    kid_subsets: int
    kid_subset_size: int
    """Images per subset, or all if a set has fewer."""
    device: torch.device
    cache: Path
    """Folder of cached features, which other runs can reuse."""

    def layer(self, metric: str) -> str:
        """Return the layer that a metric reads: "isc" the logits; "fid", as all other metrics, the features."""
        layer: str = FEATURE_EXTRACTORS_REGISTRY[self.extractor.name].get_default_feature_layer_for_metric(metric)
        return layer

    @cached_property
    def net(self) -> FeatureExtractorBase:
        """The extractor's net, with the layers of features and of logits."""
        return build(self.extractor, (self.layer("fid"), self.layer("isc")), self.device)

    def subset_size(self, a: ImageSet, b: ImageSet) -> int:
        """Return the number of images per KID subset for these sets."""
        return min(self.kid_subset_size, len(a), len(b))

    def cache_name(self, images: ImageSet) -> str:
        """Return a name for the features of a set, which changes with all that they, and KID of them, depend on."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        versions = [version(name) for name in ("torch", "torch-fidelity")]
        made_by = [self.extractor.sha256, self.batch, device_name(self.device), threads, *versions]
        facts = [images.sha256, len(images), *made_by]
        return hashlib.sha256(json.dumps([facts, code_ids("cspipe/evaluation")]).encode()).hexdigest()[:32]


def score(generated: ImageSet, reference: ImageSet, measure: Measure) -> dict[str, float]:
    """Return all scores of generated against real images, in one pass over each; the reference's features are cached.

    Rank 0 gets the scores, other ranks an empty dict. Raises UserError with fewer than FEWEST images.
    """
    _check(generated, reference)
    x, y, layer = _features(generated, measure), _cached_features(reference, measure), measure.layer("fid")
    if rank():
        return {}
    return {
        **_distances(x, y, measure, measure.subset_size(generated, reference)),
        **precision_recall(x[layer].to(measure.device), y[layer].to(measure.device)),
        "inception_score": inception_score(x[measure.layer("isc")]),
    }


def bracket(held_out: ImageSet, reference: ImageSet, noise: ImageSet, measure: Measure) -> dict[str, float]:
    """Return the best and worst KID and Frechet distance to expect: of held-out real images, and of uniform noise.

    All variants share these values, so they are cached. A Frechet distance depends on the number of images: if fewer
    are held out than samples are compared, look at KID, which does not. Rank 0 gets them, others an empty dict.
    """
    sets = {"heldout": held_out, "noise": noise}

    def compute() -> Features:
        """Return the distances as tensors of one number."""
        found: Features = {}
        y = _cached_features(reference, measure)
        for name, images in sets.items():
            _check(images, reference)
            x, size = _cached_features(images, measure), measure.subset_size(images, reference)
            if rank():
                continue
            distances = _distances(x, y, measure, size)
            found |= {f"{name}_{key}": torch.tensor(distances[key], dtype=torch.float64) for key in ("kid", "frechet")}
        return found

    names = [measure.cache_name(images) for images in (reference, *sets.values())]
    facts = [*names, measure.kid_subsets, measure.kid_subset_size]
    kept = _kept(measure.cache, hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32], compute)
    names = [] if rank() else list(sets)
    return {f"{name}_{key}": float(kept[f"{name}_{key}"]) for name in names for key in ("kid", "frechet")}


def inception_score(logits: Tensor) -> float:
    """Return the mean score of splits of logits (N, classes), one at a time: all at once take 1.4 GB for 50,000."""
    count = len(logits)
    splits, order = max(1, min(MOST_SPLITS, count // PER_SPLIT)), np.random.RandomState(SEED).permutation(count)
    parts = (logits[order[split * count // splits : (split + 1) * count // splits]] for split in range(splits))
    return float(np.mean([isc_features_to_metric(part, 1, shuffle=False)["inception_score_mean"] for part in parts]))


def _check(generated: ImageSet, reference: ImageSet) -> None:
    """Raise UserError if a set has fewer than FEWEST images."""
    if min(len(generated), len(reference)) < FEWEST:
        raise UserError(
            f"scores compare at least {FEWEST} images with {FEWEST}, here {len(generated)} with {len(reference)}; "
            "raise data.limit, data.held_out, sample.images or evaluate.images in params.yaml"
        )


def _distances(x: Features, y: Features, measure: Measure, subset_size: int) -> dict[str, float]:
    """Return KID, its spread over subsets and the Frechet distance of two sets of features."""
    a, b = (features[measure.layer("fid")] for features in (x, y))
    kid = kid_features_to_metric(a, b, kid_subsets=measure.kid_subsets, kid_subset_size=subset_size, verbose=False)
    return {
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "frechet": frechet(a.to(measure.device), b.to(measure.device)),
    }


def _cached_features(images: ImageSet, measure: Measure) -> Features:
    """Return the features of images that other sets are compared with too, from the cache if it has them."""
    return _kept(measure.cache, measure.cache_name(images), lambda: _features(images, measure))


def _kept(folder: Path, name: str, compute: Callable[[], Features]) -> Features:
    """Return the result of `compute`, cached in a file whose name ends with its sha256.

    All ranks find the file, or all compute. The cache of torch-fidelity is not used: it consists of pickles, which run
    code when they are read.
    """
    found = _find(folder, name)
    if all_agree(bool(found)):
        return found
    found = compute()
    if rank():
        return found
    content = save(found)
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()}.safetensors"
    with suppress(FileNotFoundError), whole_file(file) as beside:  # another stage may write the same file first
        beside.write_bytes(content)
    return found


def _find(folder: Path, name: str) -> Features:
    """Return the features cached under this name, or an empty dict; prints the name of a damaged file."""
    for path in folder.glob(f"{name}-*.safetensors"):
        content = path.read_bytes()
        with suppress(SafetensorError):
            if path.stem == f"{name}-{hashlib.sha256(content).hexdigest()}":
                found: Features = load(content)
                return found
        print(f"{path}: damaged, so it is not used; it is computed again", file=sys.stderr)
    return {}


def _features(images: ImageSet, measure: Measure) -> Features:
    """Return all features in rank 0: ranks take batches in turn, and each batch has the same bits as in one process.

    Features are computed without worker processes (save_cpu_ram): images are in memory or memory-mapped already.
    """
    cuda, owners = measure.device.type == "cuda", torch.arange(len(images)) // measure.batch % world()
    ours = (owners == rank()).nonzero().flatten().tolist()
    features: Features = {}
    if ours:  # with few images some ranks have none
        features = get_featuresdict_from_dataset(
            Subset(images, ours), measure.net, measure.batch, cuda, save_cpu_ram=True, verbose=False
        )
    return {layer: gathered(features[layer], owners) for layer in sorted(features)}
