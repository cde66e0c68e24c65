"""Rows of the table of speeds for data: scores of given features, feature extraction, prepare, an idle `dvc repro`.

Each function takes its time budget in seconds and returns a row. The compared actions take turns on one thread; medians
of processor time count, so that a busy machine slows all alike.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from benchmarks.rows_nets import alternate
from cspipe.evaluation.extractors import INPUT_SIDE, EfficientNetLite0, find_extractor
from cspipe.evaluation.frechet import frechet
from cspipe.evaluation.precision_recall import precision_recall
from cspipe.evaluation.scores import inception_score
from cspipe.ingest.images import Form, fit
from cspipe.ingest.parallel import CHUNK_IMAGES, CORES
from cspipe.ingest.prepare import prepare
from cspipe.ingest.settings import AvatarSettings, DataSettings

ROOT = Path(__file__).resolve().parents[1]
FEATURES, CLASSES, BATCH = 1280, 1000, 64
FFHQ_FILES = 210
"""Number of shards of 64 MiB that hold 70,000 images of 256 pixels: 13.8 GB."""
SECONDS_FOR_ALL = 60
"""Time budget in seconds from which a row is measured at its full size; with less, only a part of it."""


def scores(budget_seconds: float) -> dict[str, Any]:
    """Time FID, KID, IS, precision and recall of 50,000 float64 features, from the times of `count` and of half."""
    count, subsets = _part(8000, budget_seconds, least=1200), _part(5, budget_seconds, least=1)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(count, FEATURES, generator=generator).double() * scale for scale in (1.0, 1.01))
    logits, sizes = torch.randn(count, CLASSES, generator=generator), {"kid_subsets": subsets, "kid_subset_size": 1000}
    blocks = {"save_cpu_ram": True, "prc_batch_size": 2000, "verbose": False}

    def published(x: Tensor, y: Tensor) -> None:
        """Compute the Frechet distance by torch-fidelity."""
        fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)

    kid = partial(kid_features_to_metric, x, y, **sizes, verbose=False)  # torch-fidelity's for both
    actions: dict[str, Callable[[], object]] = {"kid": kid}
    for part, n in ("half", count // 2), ("whole", count):
        actions |= {
            f"{part} ours fid": partial(frechet, x[:n], y[:n]),
            f"{part} ours prc": partial(precision_recall, x[:n], y[:n]),
            f"{part} ours isc": partial(inception_score, logits[:n]),
            f"{part} peer fid": partial(published, x[:n], y[:n]),
            f"{part} peer prc": partial(prc_features_to_metric, x[:n], y[:n], **blocks),
            f"{part} peer isc": partial(isc_features_to_metric, logits[:n]),
        }
    times, runs = alternate(actions, budget_seconds, fewest=1, uncounted=0)

    def of_all(work: str, power: int) -> float:
        """Extrapolate the seconds of 50,000 features; those of n are (a + b n) n^power."""
        half, whole = (times[f"{part} {work}"] * shrunk**power for part, shrunk in (("half", 2.0), ("whole", 1.0)))
        return (whole + 2 * (whole - half) * (50_000 / count - 1)) * (50_000 / count) ** power

    mine, theirs = (
        times["kid"] * 100 / subsets + of_all(f"{whose} fid", 0) + of_all(f"{whose} prc", 1) + of_all(f"{whose} isc", 0)
        for whose in ("ours", "peer")
    )
    row = {"work": f"scores of 50,000 features, from {count:,}", "ours": mine, "peer": theirs, "ratio": theirs / mine}
    return {**row, "peer_name": "torch-fidelity", "goal": 5.0, "unit": "core seconds", "runs": runs}


def extraction(budget_seconds: float) -> dict[str, Any]:
    """Time the features of images by the demo's extractor, against the same net as torch-fidelity would run it."""
    weights = str(find_extractor("efficientnet-lite0", None).weights)
    net = EfficientNetLite0("efficientnet-lite0", ["features"], weights).eval()
    peer = EfficientNet.from_name("efficientnet-lite0", image_size=INPUT_SIDE).eval()
    peer.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8)

    @torch.no_grad()
    def plain() -> Tensor:
        """Return the features of a batch by the net as its package makes it."""
        side = (INPUT_SIDE, INPUT_SIDE)
        x = (torch.nn.functional.interpolate(images.float(), side, mode="bilinear", antialias=True) - 127) / 128
        found: Tensor = peer.extract_features(x).mean((2, 3))
        return found

    ours = torch.no_grad()(lambda: net(images))
    return _row(f"features of {BATCH} images", ours, plain, "the same net as its package makes it", 1.7, budget_seconds)


def prepared(budget_seconds: float) -> dict[str, Any]:
    """Time `prepare` on JPEG files of CelebA's size at 64 pixels, against Pillow's work alone, both on all cores."""
    count = _part(16_000, budget_seconds, least=100)
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    avatars = AvatarSettings(style="pixel-art", paired="none")
    with tempfile.TemporaryDirectory() as place:
        raw, out = Path(place, "raw"), Path(place, "out")
        raw.mkdir()
        for number, pixels in enumerate(coarse):
            image = Image.fromarray(pixels).resize((178, 218), Image.Resampling.BICUBIC)
            image.save(raw / f"{number:06}.jpg", quality=92)
        data = DataSettings(
            source="folder", path=raw, size=64, channels=3, crop="center", limit=None, held_out=0.1, avatars=avatars
        )

        def bare() -> None:
            """Decode and resize all files, and keep nothing."""
            with multiprocessing.get_context("fork").Pool(CORES) as pool:
                pool.map(_decoded, raw.iterdir(), CHUNK_IMAGES)
                pool.close()
                pool.join()

        work = f"prepare, {count:,} JPEG files on all cores"
        return _row(work, lambda: prepare(data, out, Path(place, "work")), bare, "Pillow alone", 0.9, budget_seconds)


def _decoded(file: Path) -> None:
    fit(Image.open(io.BytesIO(file.read_bytes())), Form(64, 3, "center"))


def idle(budget_seconds: float) -> dict[str, Any]:
    """Time `dvc repro` of a finished stage with as many files as FFHQ at 256 pixels, against the start of DVC."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path}  # the stages' `python` is this one
        params = clone / "params.yaml"
        params.write_text(params.read_text().replace("limit: 4608", "limit: 64"))

        def dvc(*arguments: str) -> None:
            """Run a DVC command in the clone. Raises RuntimeError if it fails."""
            command = [sys.executable, "-m", "dvc", *arguments]
            done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"dvc {' '.join(arguments)}: {done.stderr.strip()[-300:]}")

        dvc("repro", "prepare")
        for number in range(FFHQ_FILES):
            (clone / "data/prepared" / f"{number}.npy").write_text(str(number))
        dvc("commit", "--force", "prepare")
        both = (lambda: dvc("repro", "prepare")), (lambda: dvc("root"))
        work = f"`dvc repro prepare`, nothing to do, {FFHQ_FILES} files"
        return _row(work, *both, "`dvc root`", 0.5, budget_seconds)


def _part(count: int, budget_seconds: float, least: int) -> int:
    """Return the part of a row's full size `count` that there is time for, at least `least`."""
    return max(least, int(count * min(1.0, budget_seconds / SECONDS_FOR_ALL)))


def _row(
    work: str, ours: Callable[[], object], peer: Callable[[], object], peer_name: str, goal: float, seconds: float
) -> dict[str, Any]:
    """Time two actions and return their row, with the ratio of the peer's time to ours."""
    times, runs = alternate({"ours": ours, "peer": peer}, seconds, fewest=1, uncounted=0)
    row = {"work": work, **times, "peer_name": peer_name, "ratio": times["peer"] / times["ours"], "goal": goal}
    return {**row, "unit": "core seconds", "runs": runs}


ROWS = (scores, extraction, prepared, idle)
