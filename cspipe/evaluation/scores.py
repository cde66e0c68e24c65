"""Distances between sets of images in the features of a net, with the figures of torch-fidelity.

KID: Binkowski et al. 2018 (unbiased, so it may be below 0). Frechet distance: Heusel et al. 2017 (biased upwards with
few images). Precision and recall: Kynkaanniemi et al. 2019, k = 3. Inception score: Salimans et al. 2016. KID and the
Inception score are torch-fidelity's own; what takes it minutes with 50,000 images is computed here.
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
from cspipe.runtime.collectives import all_agree, gathered
from cspipe.runtime.device import device_name
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.provenance import code_ids
from cspipe.runtime.ranks import rank, world

Features = dict[str, Tensor]
"""By the name of the layer, (N, features)."""
FEWEST = 4
"""Images per set: precision and recall look at the third neighbour."""
PER_SPLIT, MOST_SPLITS = 500, 10
"""Inception score: the usual 10 splits need 5,000 images; with fewer, splits of a few images would lower it."""
SEED = 2020
"""Of torch-fidelity: which images are in which split."""


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
        """A name for the features of a set: it changes with everything they, and KID of them, depend on."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        versions = [version(name) for name in ("torch", "torch-fidelity")]
        made_by = [self.extractor.sha256, self.batch, device_name(self.device), threads, *versions]
        facts = [images.sha256, len(images), *made_by]
        return hashlib.sha256(json.dumps([facts, code_ids("cspipe/evaluation")]).encode()).hexdigest()[:32]


def score(generated: ImageSet, reference: ImageSet, measure: Measure) -> dict[str, float]:
    """All scores of generated against real images, from one pass over each; the reference's features are cached.

    Of several ranks the first has them, the others nothing. Raises UserError with too few images.
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
    """What scores lie between: real images that are not the reference, and uniform noise, against the reference.

    Every variant has the same, so it is kept. A Frechet distance depends on the number of images: where fewer are held
    out than are compared otherwise, KID, which does not, is the one to look at. Of several ranks the first has it.
    """
    sets = {"heldout": held_out, "noise": noise}

    def compute() -> Features:
        """As tensors of one number."""
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
    """The mean over splits of logits (N, classes), one split at a time: all at once take 1.4 GB for 50,000."""
    count = len(logits)
    splits, order = max(1, min(MOST_SPLITS, count // PER_SPLIT)), np.random.RandomState(SEED).permutation(count)
    parts = (logits[order[split * count // splits : (split + 1) * count // splits]] for split in range(splits))
    return float(np.mean([isc_features_to_metric(part, 1, shuffle=False)["inception_score_mean"] for part in parts]))


def _check(generated: ImageSet, reference: ImageSet) -> None:
    """Raises UserError with too few images."""
    if min(len(generated), len(reference)) < FEWEST:
        raise UserError(
            f"scores compare at least {FEWEST} images with {FEWEST}, here {len(generated)} with {len(reference)}; "
            "raise data.limit, data.held_out, sample.images or evaluate.images in params.yaml"
        )


def _distances(x: Features, y: Features, measure: Measure, subset_size: int) -> dict[str, float]:
    """KID, its spread and the Frechet distance."""
    a, b = (features[measure.layer("fid")] for features in (x, y))
    kid = kid_features_to_metric(a, b, kid_subsets=measure.kid_subsets, kid_subset_size=subset_size, verbose=False)
    return {
        "kid": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "frechet": frechet(a.to(measure.device), b.to(measure.device)),
    }


def _cached_features(images: ImageSet, measure: Measure) -> Features:
    """Features of images that others are compared with too."""
    return _kept(measure.cache, measure.cache_name(images), lambda: _features(images, measure))


def _kept(folder: Path, name: str, compute: Callable[[], Features]) -> Features:
    """What `compute` gives, kept in a file whose name ends with its sha256; all ranks find it, or all compute.

    Not by torch-fidelity, whose cache is pickles, which run code when they are read.
    """
    found = _find(folder, name)
    if all_agree(bool(found)):
        return found
    found = compute()
    if rank():
        return found
    content = save(found)
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()}.safetensors"
    with suppress(FileNotFoundError), whole_file(file) as beside:  # another stage may bring the same to its place first
        beside.write_bytes(content)
    return found


def _find(folder: Path, name: str) -> Features:
    """What was kept under this name, or nothing; a damaged file is named."""
    for path in folder.glob(f"{name}-*.safetensors"):
        content = path.read_bytes()
        with suppress(SafetensorError):
            if path.stem == f"{name}-{hashlib.sha256(content).hexdigest()}":
                found: Features = load(content)
                return found
        print(f"{path}: damaged, so it is not used; it is computed again", file=sys.stderr)
    return {}


def _features(images: ImageSet, measure: Measure) -> Features:
    """Features in rank 0: batches go round the ranks, and each has the bits that it has in one process.

    Computed without worker processes (save_cpu_ram): images are in memory or mapped already.
    """
    cuda, owners = measure.device.type == "cuda", torch.arange(len(images)) // measure.batch % world()
    ours = (owners == rank()).nonzero().flatten().tolist()
    features: Features = {}
    if ours:  # with few images some ranks have none
        features = get_featuresdict_from_dataset(
            Subset(images, ours), measure.net, measure.batch, cuda, save_cpu_ram=True, verbose=False
        )
    return {layer: gathered(features[layer], owners) for layer in sorted(features)}
