"""The two checks of a variant of a registered model: same seeds give the same samples, fresh seeds similar scores."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from dvc.utils.serialize import modify_yaml
from numpy.typing import NDArray

from flows.artifacts import StageProgress
from flows.command import run_command
from flows.failures import StageFailed, reason
from flows.nightly.drift import BETTER, Band, Verdict, confirmed, judge, new_band, worst

HOURS = 72.0
"""Time limit of one stage, in hours."""
SET = 10**6
"""Distance of the first seeds of two sets of samples; more than a set has images."""
LEVELS = 1.0
"""Largest mean absolute difference, on the scale 0 to 255, of samples of the same seeds from another device."""
CONTENT = ("model_sha256", "module_sha256", "reference_sha256", "extractor_weights_sha256")
"""Keys of a metrics file's provenance with the hashes of main net, net C, reference images, extractor."""
PACKAGES = ("torch", "torchvision", "torch_fidelity")
"""Keys of a metrics file's provenance with the versions of packages."""
MAY_DIFFER = ("samples_device", "device", "code")
"""Keys of a metrics file's provenance whose change alone is no drift."""
SHORT = 24
"""Characters to which a fact, such as a hash, is cut in messages."""
Scores = dict[str, float | None]
"""The judged scores (the keys of BETTER); None for one that is missing or NaN."""
Metrics = dict[str, Any]
"""Content of a metrics file."""


@dataclass(frozen=True)
class Scorer:
    """Samples and scores variants in a restored workspace, by the stages of the workspace's own revision."""

    root: Path
    run: str
    log: Callable[[str], None]
    progress: StageProgress = field(default_factory=lambda: StageProgress("reevaluate"))

    def score(self, variant: str, seed: int) -> Metrics:
        """Return the metrics of samples drawn anew from the seeds `seed`, `seed` + 1, ... Raises StageFailed."""
        with modify_yaml(str(self.root / "params.yaml")) as tree:
            tree["sample"]["seed"] = seed
        for stage in ("sample", "evaluate"):
            ended = run_command(
                [sys.executable, "-m", f"cspipe.stages.{stage}", variant],
                self.root,
                tell=self.log,
                progress=self.progress,
                hours=HOURS,
                # No CSPIPE_S3: nothing may be read from, or written to, the bucket that the machines share.
                environment={"CSPIPE_FLOW_RUN": self.run, "CSPIPE_STAGE": f"{stage}@{variant}", "CSPIPE_S3": ""},
            )
            if ended.status:
                raise StageFailed(f"{stage}@{variant}: {reason(ended.lines)}")
        return self.metrics(variant)

    def metrics(self, variant: str) -> Metrics:
        """Return the content of a variant's metrics file."""
        return dict(json.loads((self.root / "metrics" / f"{variant}.json").read_text()))

    def images(self, variant: str) -> NDArray[np.uint8]:
        """Return the samples of a variant, uint8 (N, C, H, W)."""
        images: NDArray[np.uint8] = np.load(self.root / "samples" / variant / "samples.npy", mmap_mode="r")
        return images


@dataclass
class Finding:
    """Result of a night's checks of one variant; stored as JSON in the night's record."""

    variant: str
    then: Scores
    """Recorded scores."""
    again: Scores
    """Scores of samples drawn anew from the recorded seeds."""
    images: int
    """Number of images."""
    changed: int
    """Number of images that differ at all from the recorded ones of the same seeds."""
    differs: dict[str, str]
    """Recorded facts that differ now, as returned by `differences`."""
    problems: list[str]
    """Signs of drift, each in a few words."""
    now: Scores = field(default_factory=dict)
    """Scores of fresh seeds."""
    bands: dict[str, Band | None] = field(default_factory=dict)
    """Noise bands by score; None where there are too few repeats."""
    verdict: Verdict = "inconclusive"
    repeats: list[dict[str, Any]] = field(default_factory=list)
    """Sets of fresh seeds that later nights may use for their bands: first seed and scores of each."""


def check_same_seeds(scorer: Scorer, variant: str) -> Finding:
    """Run check 1: images and scores of the same seeds must be the recorded ones; on another device, images nearly so.

    Raises StageFailed.
    """
    then, kept = scorer.metrics(variant), scorer.root / ".cspipe" / "recorded"
    kept.mkdir(exist_ok=True)
    shutil.move(scorer.root / "samples" / variant, kept)
    recorded: NDArray[np.uint8] = np.load(kept / variant / "samples.npy", mmap_mode="r")
    again = scorer.score(variant, then["provenance"][0]["seed"])
    images = scorer.images(variant)
    changed, levels = compare_images(recorded, images)
    (drawn_then, scored_then), (drawn, scored) = devices(then), devices(again)
    own = ("provenance",) if drawn == drawn_then else ("provenance", "exposure")  # not of the images alone
    found = Finding(variant, scores_of(then), scores_of(again), len(images), changed, differences(then, again), [])
    if changed if drawn == drawn_then else levels > LEVELS:
        found.problems.append(
            f"same seeds give other samples: {changed} of {len(images)} differ, by {levels:.2g} of 255 on average"
        )
    if scored == scored_then and (drawn == drawn_then or not changed):
        found.problems += [
            f"{name} of the same seeds {a} then, {b} now"
            for (name, a), b in zip(found.then.items(), found.again.values(), strict=True)
            if a != b
        ]
        other = [key for key in then if key not in own and repr(then[key]) != repr(again.get(key))]
        if other and not found.problems:
            found.problems.append(f"{', '.join(other)} of the same samples changed")
    return found


def check_fresh_seeds(found: Finding, scorer: Scorer, known: list[Scores], repeats: int, tests: int, seed: int) -> None:
    """Run check 2: scores of fresh seeds, from `seed` on, must lie in the band of earlier ones (`known`).

    Repeats missing from `repeats` are made if check 1 found no problem. `tests`: number of scores that are judged in
    this night. Raises StageFailed.
    """
    seeds = count(seed, SET)

    def new_set() -> dict[str, Any]:
        """Sample and score one more set of fresh seeds."""
        first = next(seeds)
        return {"seed": first, "scores": scores_of(scorer.score(found.variant, first))}

    history = [found.then, *known]
    missing = 0 if found.problems else max(0, repeats - len(history))
    made = [new_set() for _ in range(missing)]
    history += [one["scores"] for one in made]
    for name in BETTER:
        values = [value for scores in history if (value := scores[name]) is not None]
        found.bands[name] = new_band(values, found.images, tests)
    sets = [new_set()]
    found.now = sets[0]["scores"]
    found.verdict = worst(verdicts(found.now, found.bands).values())
    if found.verdict in ("regressed", "improved"):
        sets.append(new_set())
        found.verdict = confirmed(found.verdict, worst(verdicts(sets[1]["scores"], found.bands).values()))
    if not found.problems:
        found.repeats = made if found.verdict in ("regressed", "improved") else made + sets
    if found.verdict == "regressed":
        found.problems += [
            f"{name} of fresh seeds {found.then[name]} then, {found.now[name]} now (band {found.bands[name]})"
            for name, verdict in verdicts(found.now, found.bands).items()
            if verdict == "regressed"
        ]


def verdicts(scores: Scores, bands: Mapping[str, Band | None]) -> dict[str, Verdict]:
    """Return the verdict on each score of a set of fresh seeds."""
    return {name: judge(scores[name], bands[name], better) for name, better in BETTER.items()}


def scores_of(metrics: Metrics) -> Scores:
    """Return the judged scores of a metrics file, whose first section is the extractor's; None for missing or NaN."""
    section = next(iter(metrics.values()))
    return {name: value if (value := section.get(name)) == value else None for name in BETTER}


def compare_images(then: NDArray[np.uint8], now: NDArray[np.uint8]) -> tuple[int, float]:
    """Return how many images (N, C, H, W) differ at all, and the mean absolute difference of all values, 0 to 255.

    Raises ValueError if the shapes differ.
    """
    changed, total = 0, 0
    for a, b in zip(then, now, strict=True):  # one at a time: memory maps of up to 50,000 images
        gap = int(np.abs(np.subtract(a, b, dtype=np.int16)).sum())
        changed, total = changed + (gap > 0), total + gap
    return changed, total / max(then.size, 1)


def devices(metrics: Metrics) -> tuple[str, str]:
    """Return the devices that drew and that scored the samples; older metrics files name only the second."""
    facts = metrics["provenance"][0]
    return facts.get("samples_device") or facts["device"], facts["device"]


def differences(then: Metrics, now: Metrics) -> dict[str, str]:
    """Return the facts that differ between two metrics files (hashes, packages, devices, code), with both values.

    The builds of packages (+cu130) are compared only if both files were scored on the same device.
    """
    a, b = ({**metrics["provenance"][0], "samples_device": devices(metrics)[0]} for metrics in (then, now))
    found = {}
    for key in (*CONTENT, *PACKAGES, *MAY_DIFFER):
        old, new = (str(facts.get(key)) for facts in (a, b))
        if key in PACKAGES and a["device"] != b["device"]:
            old, new = old.partition("+")[0], new.partition("+")[0]
        if old != new:
            found[key] = "is not what made the record" if key == "code" else f"{old[:SHORT]} then, {new[:SHORT]} now"
    return found
