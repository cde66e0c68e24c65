"""Small images, and a small feature extractor that torch-fidelity knows as "tiny"."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, interpolate
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from cspipe.data.shards import Shards
from cspipe.evaluation.extractors import Extractor

Images = NDArray[np.uint8]


class TinyNet(FeatureExtractorBase):
    """One seeded convolution: "features" (N, 12), "logits" (N, 5). Counts the images it has seen."""

    seen = 0

    def __init__(self, name: str, features_list: list[str], **_settings: Any) -> None:
        super().__init__(name, features_list)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("kernel", torch.randn(12, 3, 3, 3, generator=generator))
        self.register_buffer("head", torch.randn(12, 5, generator=generator))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        TinyNet.seen += len(images)
        features = conv2d(images / 127.5 - 1, self.kernel).relu().mean((2, 3))
        outputs = {"features": features, "logits": features @ self.head}
        return tuple(outputs[name] for name in self.features_list)


torch_fidelity.register_feature_extractor("tiny", TinyNet)
TINY = Extractor("tiny", "tiny", Path("none"), "0" * 64)


def tiny_features(images: Images, layer: str = "features") -> NDArray[np.float64]:
    """TinyNet's outputs for RGB images, all at once."""
    (found,) = TinyNet("tiny", [layer])(torch.from_numpy(images))
    return found.double().numpy()


def source_of(images: Images) -> Shards:
    return Shards(images.shape[1:], [images], hashlib.sha256(images.tobytes()).hexdigest())


def blobs(count: int, seed: int, channels: int = 3, size: int = 16) -> Images:
    """Smooth random images (N, C, size, size): 4 x 4 random values, enlarged. Those of one seed are alike in kind."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 60 + 120 * torch.rand(count, channels, 4, 4, generator=generator)
    return interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8).numpy()
