"""Run two trainings in the shape of CIFAR-10 by the pipeline's stages, plain and compensated, and score them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cspipe.config.overlays import read_preset, set_keys

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("compensated", "plain")
SHARE_OF_TRAINING = 0.75
"""Share of a method's time for its training; the rest is for C, samples and scores."""
COUNT = 4096
"""Number of synthetic images where no real ones are given."""
VARIANT: dict[str, Any] = {
    "sampler": "ddim", "eta": 0.0, "reads": "models/main", "terminal": "mean", "snapshot": None, "correction": None,
    "repaint": None,
}  # fmt: skip
COMPENSATED = {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None}
VARIANTS: dict[str, Any] = {
    "ddim-10": {**VARIANT, "steps": 10},
    "ddim-100": {**VARIANT, "steps": 100},
    "cs-10": {**VARIANT, "steps": 10, "reads": "models", "correction": COMPENSATED},
}
SMALLEST = {
    "data.size": 8, "data.limit": 64, "model.channels": 16, "model.blocks": 1, "model.multipliers": [1, 2],
    "model.attention": [4], "model.head_channels": 16, "model.dropout": 0.0, "train.batch": 8, "train.micro_batch": 8,
    "compensation.batch": 8, "compensation.channels": 16, "sample.images": 16, "sample.batch": 8,
    "evaluate.images": 16, "evaluate.batch": 8, "evaluate.kid_subset_size": 8, "evaluate.kid_subsets": 2,
    "evaluate.neighbours": 4, "compute.device": "cpu", "compute.precision": "float32", "compute.threads": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Trainings:
    """Trainings that run the stages in folders below `out`."""

    out: Path
    cifar: Path | None
    device: torch.device
    smallest: bool

    def run(self, once: Callable[[str, str, Callable[[], Any]], None], deadline: float) -> None:
        """Run both methods for the same number of images seen, which follows from the speed and the time left."""
        methods = METHODS[: 1 if self.smallest else None]
        once("training", "images", lambda: self._images(deadline, len(methods)))
        found = json.loads((self.out / "results.json").read_text())["training"]["images"]
        if "failed" in found:
            return
        for number, method in enumerate(methods):
            seconds = (deadline - time.monotonic()) / (len(methods) - number)
            once("training", method, partial(self._train, method, found["images"], seconds))

    @property
    def _variants(self) -> dict[str, Any]:
        return {"cs-10": VARIANTS["cs-10"]} if self.smallest else VARIANTS

    def _folder(self, method: str) -> Path:
        """Return the working folder of a method, with a folder for data in it."""
        folder = self.out / method
        (folder / "data").mkdir(parents=True, exist_ok=True)
        return folder

    def _images(self, deadline: float, methods: int) -> dict[str, int]:
        """Prepare the data; return how many images each training may see before the deadline, by a short training."""
        folder = self._folder(METHODS[0])
        self._data(folder)
        few = 16 if self.smallest else 25_600
        write_params(folder, self._changes(METHODS[0], few))
        self._stage(folder, "prepare")
        start = time.monotonic()
        self._stage(folder, "train")
        now = time.monotonic()
        rate, seconds = few / (now - start), (deadline - now) / methods
        batch = 8 if self.smallest else 128
        shutil.rmtree(folder / "models")
        images = few if self.smallest else int(rate * seconds * SHARE_OF_TRAINING) // batch * batch
        if images < few:
            raise RuntimeError(f"{seconds:.0f} s are left for a training, too few to tell anything")
        return {"images": images}

    def _train(self, method: str, images: int, seconds: float) -> dict[str, Any]:
        """Run the stages of a method, one variant after another; return its scores, or those so far if time is up."""
        folder, end = self._folder(method), time.monotonic() + seconds
        if not (folder / "data/prepared").exists():
            shutil.copytree(self._folder(METHODS[0]) / "data/prepared", folder / "data/prepared")
        write_params(folder, self._changes(method, images))
        spent: dict[str, float] = {}
        found: dict[str, Any] = {"images": images, "seconds": spent}
        stages = [["train"]]
        for name, variant in self._variants.items():
            stages += [["compensate"]] if variant["correction"] else []
            stages += [["sample", name], ["evaluate", name]]
        try:
            for stage in stages:
                start = time.monotonic()
                self._stage(folder, *stage, seconds=max(1.0, end - start))
                spent["@".join(stage)] = time.monotonic() - start
        except subprocess.TimeoutExpired as error:
            found["failed"] = f"{' '.join(error.cmd[2:])} took over {error.timeout:.0f} s"
        files = {name: folder / f"metrics/{name}.json" for name in self._variants if f"evaluate@{name}" in spent}
        return {**found, "scores": {name: json.loads(file.read_text())["efflite0"] for name, file in files.items()}}

    def _changes(self, method: str, images: int) -> dict[str, Any]:
        """Return the changes to the preset cifar10, by dotted key."""
        source = {"data.source": "npz", "data.path": "data/images.npy", "data.held_out": 0.12}
        return {
            **({} if self.cifar else source),
            "variants": self._variants,
            "compute.precision": "bfloat16",
            "compute.compile": False,
            "evaluate.extractor": "efficientnet-lite0",
            "evaluate.weights": None,
            "evaluate.images": 10_000 if self.cifar else 400,
            "sample.images": 10_000 if self.cifar else 400,
            "evaluate.kid_subset_size": 200,
            "train.method": method,
            "train.images": images,
            "train.warmup": images // 10,
            "train.compensation.start": images // 10,
            "train.snapshots": [],
            "train.ema_half_life": max(images // 50, 128),
            "train.grid_every": max(images // 8, 128),
            "train.checkpoint_every": max(images, 128),
            "train.log_every": max(images // 100, 128),
            **(SMALLEST if self.smallest else {}),
        }

    def _data(self, folder: Path) -> None:
        """Copy CIFAR-10's archive to where the preset expects it, or make images: two random discs on shaded ground."""
        if self.cifar is not None:
            place = folder / "data/raw/cifar10"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.cifar, place)
            return
        random, size = np.random.default_rng(0), 8 if self.smallest else 32
        y, x = np.mgrid[:size, :size] / size
        images = np.empty((64 if self.smallest else COUNT, size, size, 3), np.uint8)
        for image in images:
            image[:] = 255 * (random.random(3) * (x + y)[..., None] / 2)
            for cx, cy, radius in random.random((2, 3)):
                image[(x - cx) ** 2 + (y - cy) ** 2 < (0.1 + radius / 4) ** 2] = 255 * random.random(3)
        np.save(folder / "data/images.npy", images)

    def _stage(self, folder: Path, name: str, *arguments: str, seconds: float = 600.0) -> None:
        """Run a stage. Raises RuntimeError with the last line of its errors if it fails."""
        command = [sys.executable, "-m", f"cspipe.stages.{name}", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["ended without a word"])[-1])


def write_params(folder: Path, changes: dict[str, Any]) -> None:
    """Write params.yaml to a folder: the preset cifar10 with changes by dotted key."""
    tree = set_keys(read_preset("cifar10").tree, changes, "benchmarks")
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
