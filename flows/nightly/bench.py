"""Drawing and scoring samples of a registered model by its own revision's stages, in a workspace thrown away."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dvc.utils.serialize import modify_yaml
from numpy.typing import NDArray

from cspipe.runtime.files import whole_folder
from flows.command import Step, run_command
from flows.failures import StageFailed, reason
from flows.nightly.restore import release
from flows.workspace import Workspace

ARRAY, FACTS = "samples.npy", "samples.json"
HOURS = 72.0
"""Longest that one stage may take."""


class Bench:
    """A restored workspace. Sets of samples are folders as stage sample writes them."""

    def __init__(
        self, workspace: Workspace, clone: Path, run: str, tell: Callable[[str], None], progress: Callable[[Step], None]
    ) -> None:
        self._root, self._run, self._tell, self._progress = workspace.root, run, tell, progress
        self._params = (workspace.root / "params.yaml").read_text()
        self._sets = 0
        with modify_yaml(str(self._root / "params.yaml")) as tree:
            self.seed, self.images, self.batch = (int(tree["sample"][key]) for key in ("seed", "images", "batch"))
            self._evaluate = dict(tree["evaluate"])
        weights = self._evaluate["weights"]
        # git ignores weights, so a workspace has none; an absolute path stays what it is
        self._weights = weights if weights is None else str(clone / weights)

    def metrics(self, variant: str) -> dict[str, Any]:
        """The scores that the revision records."""
        return dict(json.loads((self._root / "metrics" / f"{variant}.json").read_text()))

    def recorded(self, variant: str) -> Path:
        """The set of samples that the revision records."""
        return release(self._root, f"samples/{variant}")

    def draw(self, variant: str, seed: int, images: int) -> Path:
        """A new set, of seeds seed, seed + 1, ... Raises StageFailed."""
        fewer = min(images, self._evaluate["images"])
        self._stage(
            "sample",
            variant,
            {
                ("sample", "seed"): seed,
                ("sample", "images"): images,
                ("evaluate", "images"): fewer,  # params.yaml must agree with itself
                ("evaluate", "kid_subset_size"): min(fewer, self._evaluate["kid_subset_size"]),
            },
        )
        return self._keep(variant)

    def score(self, variant: str, samples: Path) -> dict[str, Any]:
        """Metrics of a set, in the form of a metrics file. Raises StageFailed."""
        shutil.move(samples, self._root / "samples" / variant)
        try:
            self._stage("evaluate", variant, {})
        finally:
            shutil.move(self._root / "samples" / variant, samples)
        return self.metrics(variant)

    def part(self, samples: Path, first: int, images: int) -> Path:
        """A set of some of the images of another."""
        self._sets += 1
        with whole_folder(self._root / ".cspipe" / "sets" / str(self._sets)) as folder:
            np.save(folder / ARRAY, images_of(samples)[first : first + images])
            shutil.copyfile(samples / FACTS, folder / FACTS)
        return self._root / ".cspipe" / "sets" / str(self._sets)

    def _keep(self, variant: str) -> Path:
        self._sets += 1
        kept = self._root / ".cspipe" / "sets" / str(self._sets)
        kept.parent.mkdir(exist_ok=True)
        shutil.move(self._root / "samples" / variant, kept)
        return kept

    def _stage(self, stage: str, variant: str, changes: Mapping[tuple[str, str], int]) -> None:
        """Run a stage of the revision with changed parameters."""
        params = self._root / "params.yaml"
        params.write_text(self._params)
        with modify_yaml(str(params)) as tree:
            for (section, key), value in changes.items():
                tree[section][key] = value
            tree["evaluate"]["weights"] = self._weights
        command = [sys.executable, "-m", f"cspipe.stages.{stage}", variant]
        # No CSPIPE_S3: nothing may come from, or go to, what the machines share.
        names = {"CSPIPE_FLOW_RUN": self._run, "CSPIPE_STAGE": f"{stage}@{variant}", "CSPIPE_S3": ""}
        ended = run_command(
            command, self._root, tell=self._tell, progress=self._progress, hours=HOURS, environment=names
        )
        if ended.status:
            raise StageFailed(f"{stage}@{variant}: {reason(ended.lines)}")


def images_of(samples: Path) -> NDArray[np.uint8]:
    """Images (N, C, H, W) of a set, memory-mapped."""
    images: NDArray[np.uint8] = np.load(samples / ARRAY, mmap_mode="r")
    return images


def facts_of(samples: Path) -> dict[str, Any]:
    """How a set was made."""
    return dict(json.loads((samples / FACTS).read_text()))
