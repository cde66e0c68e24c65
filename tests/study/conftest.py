"""Results of a study that never ran: scores and seconds as a test sets them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from cspipe.study.definition import Study
from cspipe.study.results import Result, Results, Sampled, Setting

Scores = Mapping[tuple[str, str | None], Sequence[float]]
Make = Callable[..., Results]
SETTING = Setting(
    commit="a" * 40, data="avatars pixel-art, 8 pixels, 600 images", extractor="efficientnet-lite0", images=128,
    processor="a processor", cores=2, jobs=2, python="3.11.7", torch="2.15.0", wall_seconds=90.0,
)  # fmt: skip


def result(row: str, point: str | None, seed: int, frechet: float | None, seconds: float) -> Result:
    """A cell with a Frechet distance and a recall, or without scores a failed one."""
    sampled = Sampled(
        scores={"frechet": frechet or 0.0, "recall": 0.5}, compensate_seconds=None, sample_seconds=1.5, flop=10**7
    )
    return Result(
        row=row, point=point, seed=seed, experiment=f"made-{row}-{point}-{seed}", commit="a" * 40,
        images=int(point) if point and point.isdigit() else 1000, parameters=208_947, flop=28_600_000,
        train_seconds=seconds, images_per_second=100.0, variants={} if frechet is None else {"ddim-10": sampled},
        failed="cspipe train: out of memory" if frechet is None else None,
    )  # fmt: skip


@pytest.fixture
def made() -> Make:
    """made({("plain", "1000"): [9, 8], ...}, claims, seconds): results with these distances, one for each seed."""

    def make(scores: Scores, claims: Sequence[Any] = (), seconds: Mapping[tuple[str, str | None], float] | None = None):
        rows = {row: {} for row, _ in scores}
        points = {point: {} for _, point in scores if point is not None}
        seeds = max(len(each) for each in scores.values())
        tree = {
            "question": "Is it better?", "seeds": list(range(seeds)), "rows": rows, "points": points,
            "axis": "images seen" if points else "", "variants": ["ddim-10"], "scores": ["frechet", "recall"],
            "claims": list(claims),
        }  # fmt: skip
        study = Study.model_validate(tree)
        cells = [
            result(row, point, seed, score, (seconds or {}).get((row, point), 10.0))
            for (row, point), each in scores.items()
            for seed, score in enumerate(each)
        ]
        return Results(name="made", study=study, setting=SETTING, claimed="b" * 40, late=[], cells=cells)

    return make
