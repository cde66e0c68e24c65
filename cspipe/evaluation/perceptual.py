"""Perceptual distance of two images, by the features of a net.

LPIPS (Zhang et al. 2018, version 0.1) if params.yaml names a file of ImageNet weights; otherwise the distance of the
pooled features that the other scores compare, which is not LPIPS and is never called so.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from cspipe.evaluation.extractors import Extractor, build, not_weights
from cspipe.evaluation.settings import LpipsSettings
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file

BATCH, BATCH_PIXELS = 32, 2**19
"""Pairs per pass, and pixels, at most: 8 pairs of 256 x 256 pixels, whose features in VGG take half a gigabyte."""
SMALLEST, ENLARGED = 32, 64
"""Sides in pixels: smaller images, of which the nets' pooling leaves nothing, are enlarged to what LPIPS was fit on."""
WEIGHTS = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
"""torchvision's files of ImageNet weights; each name ends with the first 8 digits of the sha256."""


@dataclass(frozen=True)
class Perceptual:
    """A distance between images, 0 between equal ones."""

    label: str
    """Name of the distance in metrics files."""
    measure: Callable[[Tensor, Tensor], Tensor]
    """Gives the distances (N,) of a batch of pairs, uint8 (N, 3, H, W) each, on the device."""
    device: torch.device
    on_pairs: Callable[[int], object] = lambda pairs: None
    """Called with the number of pairs just compared, to show progress."""

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the distances (N,) of pairs of images (N, C, H, W), C 1 or 3; grey is repeated in three channels."""
        distances = np.empty(len(a))
        batch = min(BATCH, max(1, BATCH_PIXELS // (a.shape[2] * a.shape[3])))
        for start in range(0, len(a), batch):
            chosen = slice(start, start + batch)
            x, y = (torch.from_numpy(np.array(i[chosen])).to(self.device).expand(-1, 3, -1, -1) for i in (a, b))
            with torch.no_grad():
                distances[chosen] = self.measure(x, y).double().cpu().numpy()
            self.on_pairs(len(x))
        return distances


def open_perceptual(
    lpips: LpipsSettings | None,
    extractor: Extractor,
    device: torch.device,
    on_pairs: Callable[[int], object] = lambda pairs: None,
) -> Perceptual:
    """Return LPIPS with the weights of params.yaml, or the distance of an extractor's features without them.

    If their file is missing, prints this and where to get them. Raises UserError if the file is another one.
    """
    fallback = f"{extractor.label}_distance"
    if lpips is None:
        return Perceptual(fallback, _feature_distance(extractor, device), device, on_pairs)
    path, file = lpips.weights, WEIGHTS[lpips.net]
    advice = (
        f"download {file} from https://download.pytorch.org/models/{file} and put it there, set "
        "evaluate.lpips.weights in params.yaml to where it is, or evaluate.lpips to null"
    )
    if not path.is_file():
        print(f"evaluate: {path} is not there, so {fallback} stands in for LPIPS; {advice}", file=sys.stderr)
        return Perceptual(fallback, _feature_distance(extractor, device), device, on_pairs)
    sha256, published = sha256_file(path)[:8], file.removesuffix(".pth")[-8:]
    if sha256 != published:
        raise UserError(f"{path}: not {file} (sha256 {sha256}, not {published}); {advice}")
    return Perceptual(f"lpips_{lpips.net}", _lpips(lpips.net, path, device), device, on_pairs)


def _feature_distance(extractor: Extractor, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the Euclidean distance of the pooled features of an extractor.

    This distance says little about single drawings: faint noise on flat colours moves EfficientNet's features as far as
    glasses do.
    """
    layer = FEATURE_EXTRACTORS_REGISTRY[extractor.name].get_default_feature_layer_for_metric("fid")
    net = build(extractor, [layer], device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (N,) of a batch of pairs (N, 3, H, W)."""
        (x,), (y,) = net(a), net(b)
        return torch.linalg.vector_norm(x.double() - y.double(), dim=1)  # type: ignore[no-any-return]

    return distance


def _lpips(name: str, weights: Path, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Build LPIPS of the net `name`; the file `weights` replaces the download of its ImageNet weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision in an old way
        from lpips import LPIPS

        net = LPIPS(net=name, pnet_rand=True, verbose=False)
    try:
        stored = torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise not_weights(weights) from None
    for layers in net.net.children():
        layers.load_state_dict({key: stored[f"features.{key}"] for key in layers.state_dict()})
    net.requires_grad_(False).to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (N,) of a batch of pairs (N, 3, H, W)."""
        x, y = (images / 127.5 - 1 for images in (a, b))
        if min(x.shape[2:]) < SMALLEST:
            x, y = (interpolate(images, (ENLARGED, ENLARGED), mode="bilinear") for images in (x, y))
        return net(x, y).flatten()  # type: ignore[no-any-return]

    return distance
