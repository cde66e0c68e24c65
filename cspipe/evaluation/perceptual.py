"""How different two pictures look, by the features of a net.

LPIPS (Zhang et al. 2018, version 0.1) if params.yaml names a file of ImageNet weights; otherwise the distance of the
pooled features that the other scores compare, which is no LPIPS and is never called so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor
from torchvision.models import alexnet, vgg16  # type: ignore[import-untyped]

from cspipe.evaluation.extractors import Extractor
from cspipe.evaluation.settings import LpipsSettings
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file

BATCH, BATCH_PIXELS = 32, 2**19
"""Pairs per pass at most, and pixels: 8 pairs of 256 pixels, whose features in VGG take half a gigabyte."""
SMALLEST, ENLARGED = 32, 64
"""Pixels: smaller pictures than the nets' pooling leaves something of are enlarged first, to what LPIPS was fit on."""


@dataclass(frozen=True)
class Trunk:
    """A net of torchvision whose features LPIPS compares."""

    file: str
    """Name of the weights file; it ends with the first 8 digits of its sha256."""
    layers: Sequence[int]
    """The five rectified layers that are compared, by their places in `features`."""

    @property
    def sha256(self) -> str:
        """The first 8 digits."""
        return self.file.removesuffix(".pth")[-8:]


TRUNKS = {
    "alex": Trunk("alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": Trunk("vgg16-397923af.pth", (3, 8, 15, 22, 29)),
}
NETS = {"alex": alexnet, "vgg": vgg16}


Told = Callable[[int], None]
"""Is told how many pairs were just compared, to show progress."""


class Perceptual(Protocol):
    """A distance between pictures, 0 between equal ones."""

    @property
    def label(self) -> str:
        """Its name in metrics files."""

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Of pairs of pictures (N, C, H, W), C 1 or 3: (N,)."""


def _nothing(pairs: int) -> None:
    """Nobody is told."""


def open_perceptual(
    lpips: LpipsSettings | None, extractor: Extractor, device: torch.device, told: Told = _nothing
) -> Perceptual:
    """LPIPS with the weights of params.yaml, or the distance in an extractor's features if they are not there.

    Says so, with where the file is to be had. Raises UserError if it is another file.
    """
    if lpips is None:
        return FeatureDistance(extractor, device, told)
    trunk = TRUNKS[lpips.net]
    path = lpips.weights
    advice = (
        f"download {trunk.file} from https://download.pytorch.org/models/{trunk.file} and put it there, set "
        "evaluate.lpips.weights in params.yaml to where it is, or evaluate.lpips to null"
    )
    if not path.is_file():
        fallback = FeatureDistance(extractor, device, told)
        print(f"evaluate: {path} is not there, so {fallback.label} stands in for LPIPS; {advice}", file=sys.stderr)
        return fallback
    sha256 = sha256_file(path)[:8]
    if sha256 != trunk.sha256:
        raise UserError(f"{path}: not {trunk.file} (sha256 {sha256}, not {trunk.sha256}); {advice}")
    return LpipsDistance(lpips.net, path, device, told)


class FeatureDistance:
    """Euclidean distance of the pooled features of an extractor.

    It says little of single drawings: faint noise on flat colours moves EfficientNet's features as far as glasses do.
    """

    def __init__(self, extractor: Extractor, device: torch.device, told: Told = _nothing) -> None:
        self.label, self.device, self.told = f"{extractor.label}_distance", device, told
        layer = FEATURE_EXTRACTORS_REGISTRY[extractor.name].get_default_feature_layer_for_metric("fid")
        self.net = create_feature_extractor(
            extractor.name,
            [layer],
            cuda=device.type == "cuda",
            verbose=False,
            feature_extractor_weights_path=str(extractor.weights),
        )

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Of pairs of pictures (N, C, H, W), C 1 or 3: (N,)."""
        return _in_batches(self, a, b)

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        """Of a batch, uint8 (N, 3, H, W) on the device: (N,)."""
        (x,), (y,) = self.net(a), self.net(b)
        distance: Tensor = torch.linalg.vector_norm(x.double() - y.double(), dim=1)
        return distance


class LpipsDistance(nn.Module):
    """LPIPS: squared differences of features, normalised over channels, weighted, averaged over places, summed."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str, weights: Path, device: torch.device, told: Told = _nothing) -> None:
        super().__init__()
        self.label, self.device, self.told, self.layers = f"lpips_{net}", device, told, TRUNKS[net].layers
        trunk = NETS[net]()
        trunk.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.features = trunk.features[: self.layers[-1] + 1]
        fit = Path(str(distribution("lpips").locate_file(f"lpips/weights/v0.1/{net}.pth")))
        linear = torch.load(fit, map_location="cpu", weights_only=True)
        for place in range(len(self.layers)):
            self.register_buffer(f"linear{place}", linear[f"lin{place}.model.1.weight"])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(3, 1, 1))  # of the authors
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(3, 1, 1))
        self.requires_grad_(False).eval().to(device)

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Of pairs of pictures (N, C, H, W), C 1 or 3: (N,)."""
        return _in_batches(self, a, b)

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        """Of a batch, uint8 (N, 3, H, W) on the device: (N,)."""
        distance = torch.zeros(len(a), device=self.device)
        x, y = ((_large(images / 127.5 - 1) - self.shift) / self.scale for images in (a, b))
        for place, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if place in self.layers:
                weights = self.get_buffer(f"linear{self.layers.index(place)}")
                distance += (weights * (_unit(x) - _unit(y)).square()).sum(1, keepdim=True).mean((1, 2, 3))
        return distance


def _in_batches(
    measure: FeatureDistance | LpipsDistance, a: NDArray[np.uint8], b: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Distances of pairs of pictures (N, C, H, W), grey ones repeated in three channels: (N,)."""
    distances = np.empty(len(a))
    batch = min(BATCH, max(1, BATCH_PIXELS // (a.shape[2] * a.shape[3])))
    with torch.no_grad():
        for start in range(0, len(a), batch):
            chosen = slice(start, start + batch)
            x, y = (torch.from_numpy(np.array(images[chosen])).to(measure.device) for images in (a, b))
            distances[chosen] = measure.of(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)).double().cpu().numpy()
            measure.told(len(x))
    return distances


def _unit(features: Tensor) -> Tensor:
    """Features (N, C, H, W) of length 1 over channels; 0 stays 0."""
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (length + 1e-10)


def _large(images: Tensor) -> Tensor:
    """Float pictures, enlarged if they are smaller than SMALLEST."""
    small = min(images.shape[2:]) < SMALLEST
    return interpolate(images, (ENLARGED, ENLARGED), mode="bilinear") if small else images
