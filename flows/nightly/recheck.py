"""The two checks of one variant of a registered model: same seeds must give the same, fresh seeds about the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cspipe.data.grid import display_scale, grid
from cspipe.runtime.storage import Bucket
from flows.nightly import nights
from flows.nightly.bench import Bench, facts_of, images_of
from flows.nightly.causes import changed_content, changed_versions, likely_causes
from flows.nightly.drift import (
    BETTER,
    LEVELS,
    TOLERANCE,
    Band,
    Difference,
    Verdict,
    compare_images,
    confirmed,
    judge,
    moved,
    new_band,
    scales,
    worst,
)
from flows.nightly.nights import Scores, fresh_seed, scores_of
from flows.workspace import Workspace

SHOWN, COLUMNS = 32, 4
"""Images in the picture of then and now, on each side."""
NEW, CONFIRMATION = 0, 1
"""Parts of a night's seeds."""

NEW_VERSION = "install what pyproject.toml of the revision pins, or register a version made with these packages"


@dataclass(frozen=True)
class Night:
    """When, and how much is done."""

    day: date
    number: int
    """Which run of the day."""
    redraw: int | None
    """Images that are drawn again from the same seeds; None: all."""
    repeats: int
    """Scores that a band is wanted from; those that are missing are made now."""
    variants: int = 1
    """Of the revision: the chance of a false alarm is that of all of them together."""


@dataclass
class Finding:
    """What a night found about a variant; as JSON, its record."""

    variant: str
    then: Scores
    """The recorded scores."""
    again: Scores
    """Scores of the recorded samples, now."""
    same_seeds: Difference
    exact: bool
    """Whether same seeds must give the same bytes: the device is of the same kind."""
    versions: list[str]
    cause: str
    seed: int = -1
    now: Scores = field(default_factory=dict)
    """Scores of fresh seeds."""
    bands: dict[str, Band] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    verdict: Verdict = "inconclusive"
    repeats: list[dict[str, Any]] = field(default_factory=list)
    """Sets of this night that later nights may count on: their seed and scores."""
    problems: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As JSON can write it: infinite widths of bands become null."""
        tree = asdict(self)
        for band in tree["bands"].values():
            band |= {key: None for key in ("mean", "usual", "alarm") if not np.isfinite(band[key])}
        return tree


def check(bench: Bench, workspace: Workspace, variant: str, night: Night) -> tuple[Finding, Image.Image]:
    """Both checks; returns what they found, and a picture: recorded samples left, the same seeds now right."""
    metrics, recorded = bench.metrics(variant), bench.recorded(variant)
    count = bench.images if night.redraw is None else min(bench.images, -(-night.redraw // bench.batch) * bench.batch)
    same = bench.draw(variant, bench.seed, count)  # whole batches: rounding depends on a batch's size
    again = bench.score(variant, recorded)
    found = check_same_seeds(variant, metrics, again, recorded, same, workspace)
    unchanged = not found.problems
    check_fresh_seeds(found, bench, workspace.bucket, workspace.revision, night, metrics)
    if unchanged and found.versions:
        found.problems.append(f"{'; '.join(found.versions)}, with the same samples and scores; {NEW_VERSION}")
    return found, then_and_now(images_of(recorded)[: min(count, SHOWN)], images_of(same)[: min(count, SHOWN)])


def check_same_seeds(
    variant: str, metrics: dict[str, Any], again: dict[str, Any], recorded: Path, same: Path, workspace: Workspace
) -> Finding:
    """Check 1: samples of the same seeds, and the scores of the recorded samples."""
    then, now = metrics["provenance"][0], again["provenance"][0]
    facts = facts_of(same)
    code = {
        **facts["code"],
        "evaluate": now["code"]["evaluate"],
    }  # the rest of again's are those of the recorded samples
    now = {**now, **{key: facts[key] for key in ("model_sha256", "module_sha256")}, "code": code}
    difference = compare_images(images_of(recorded)[: len(images_of(same))], images_of(same))
    found = Finding(
        variant,
        scores_of(metrics),
        scores_of(again),
        difference,
        exact=then["device"] == now["device"],
        versions=changed_versions(then, now),
        cause=likely_causes(then, now, workspace.root),
    )
    if difference.changed if found.exact else difference.levels > LEVELS:
        found.problems.append(
            f"same seeds give other samples: {difference.changed} of {difference.images} differ, by "
            f"{difference.levels:.2g} of 255 on average"
        )
    share = 0.0 if found.exact else TOLERANCE
    allowed = {name: share * scale for name, scale in scales(metrics["bracket"]).items()}
    for name in moved(found.then, found.again, allowed):
        found.problems.append(f"{name} of the recorded samples {_shown(found.then[name], found.again[name])}")
    if not found.problems and found.exact and _numbers(metrics) != _numbers(again):
        found.problems.append("bracket or memorisation of the recorded samples changed")
    if not found.problems:
        found.problems += changed_content(then, now)
    return found


def check_fresh_seeds(
    found: Finding, bench: Bench, bucket: Bucket | None, commit: str, night: Night, metrics: dict[str, Any]
) -> None:
    """Check 2: scores of fresh seeds in the band of the repeats. Missing repeats are made if nothing has changed."""
    assert bucket is not None
    known = [found.then, *nights.repeats(bucket, commit, found.variant)]
    missing = 0 if found.problems else max(0, night.repeats - len(known))
    found.seed = fresh_seed(night.day, night.number, NEW)
    sets = _score_sets(bench, found.variant, found.seed, 1 + missing)
    found.now, made = sets[0]["scores"], sets[1:]
    history = known + [repeat["scores"] for repeat in made]
    images, size = metrics["provenance"][0]["samples_images"], scales(metrics["bracket"])
    for name in BETTER:
        values = [value for repeat in history if (value := repeat[name]) is not None]
        found.bands[name] = new_band(values, images, len(BETTER) * night.variants)
    found.verdicts = _judged(found.now, found.bands, size)
    found.verdict = worst(found.verdicts.values())
    if found.verdict in ("regressed", "improved"):
        seed = fresh_seed(night.day, night.number, CONFIRMATION)
        [second] = _score_sets(bench, found.variant, seed, 1)
        sets.append(second)
        found.verdict = confirmed(found.verdict, worst(_judged(second["scores"], found.bands, size).values()))
    if not found.problems:
        found.repeats = made if found.verdict in ("regressed", "improved") else sets
    if found.verdict == "regressed" or found.problems:
        found.problems += _regressions(found)


def _score_sets(bench: Bench, variant: str, seed: int, count: int) -> list[dict[str, Any]]:
    """Scores of `count` sets from consecutive seeds, drawn at once."""
    drawn, sets = bench.draw(variant, seed, count * bench.images), []
    for first in range(0, count * bench.images, bench.images):
        part = bench.part(drawn, first, bench.images)
        sets.append({"seed": seed + first, "scores": scores_of(bench.score(variant, part))})
    return sets


def _judged(scores: Scores, bands: dict[str, Band], size: dict[str, float]) -> dict[str, Verdict]:
    return {name: judge(scores[name], bands[name], better, size[name]) for name, better in BETTER.items()}


def _regressions(found: Finding) -> list[str]:
    """The scores of fresh seeds in words: those that regressed, or KID beside another problem."""
    names = [name for name, verdict in found.verdicts.items() if verdict == "regressed"] or ["kid"]
    texts = []
    for name in names:
        band = found.bands[name]
        around = f"band {band.mean - band.alarm:.4g} to {band.mean + band.alarm:.4g} of {band.repeats} repeats"
        known = around if np.isfinite(band.alarm) else "no band yet"
        texts.append(f"{name} of fresh seeds {_shown(found.then[name], found.now[name])} ({found.verdict}, {known})")
    return texts


def _shown(then: float | None, now: float | None) -> str:
    return f"{then} then, {now} now"


def _numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: repr(value) for key, value in metrics.items() if key != "provenance"}


def then_and_now(then: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> Image.Image:
    """Images (N, C, H, W) side by side: then on the left, now on the right."""
    scale = display_scale(then.shape[-1])
    left, right = grid(then, COLUMNS, scale), grid(now, COLUMNS, scale)
    picture = Image.new("RGB", (left.width + right.width + 8 * scale, left.height), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width + 8 * scale, 0))
    return picture
