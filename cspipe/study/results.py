"""Results of a study, the content of docs/results/NAME.json; table and figure are made from them alone."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from cspipe.report.collect import first_problem
from cspipe.runtime.errors import UserError
from cspipe.runtime.settings import Section
from cspipe.study.definition import Study

RESULTS = Path("docs/results")


class Sampled(Section):
    """Scores and costs of one variant of a cell."""

    scores: dict[str, float]
    """Scores by name; only those that the metrics file has."""
    compensate_seconds: float | None
    """Seconds to fit the net C that the variant needs; None: it needs none, or the time is not recorded."""
    sample_seconds: float | None
    flop: int
    """FLOP of one sample."""


class Result(Section):
    """A cell that has run, or has failed."""

    row: str
    point: str | None
    seed: int
    experiment: str
    commit: str
    """Commit of the repository whose code the cell ran with."""
    images: int
    """Number of images seen in training."""
    parameters: int
    """Number of parameters of the main net."""
    flop: int
    """FLOP of one image in training: forward and backward pass of the main net, and what its method adds on average."""
    train_seconds: float | None
    """Seconds of training; None: not recorded."""
    images_per_second: float | None
    variants: dict[str, Sampled]
    failed: str | None
    """Reason why there are no scores, in a line; None: the cell has not failed."""


class Setting(Section):
    """Settings that all cells share, and the machine that they ran on."""

    commit: str
    data: str
    """The set of images, in words."""
    extractor: str
    images: int
    """N: images on each side of a comparison, at most."""
    reference_images: int | None = None
    """Number of images that samples are compared with; None: not recorded, as in earlier results."""
    processor: str
    cores: int
    jobs: int
    python: str
    torch: str
    wall_seconds: float
    """Wall-clock seconds of the command, over all its starts."""


class Results(Section):
    """All results of a study."""

    name: str
    study: Study
    setting: Setting
    claimed: str
    """Commit that wrote the claims: the last change of study.yaml before the first run."""
    late: list[str]
    """Texts of the claims that study.yaml lacked, word for word and number for number, when at least one cell ran."""
    cells: list[Result]

    @property
    def points(self) -> list[str | None]:
        """Names of the points; [None] for a study without any."""
        return list(self.study.points) or [None]

    def runs(self, line: str, point: str | None) -> dict[int, tuple[Result, Sampled]]:
        """Return the finished cells of a line at a point, with the results of the line's variant, by seed."""
        row, variant = self.study.lines()[line]
        return {
            cell.seed: (cell, cell.variants[variant])
            for cell in self.cells
            if (cell.row, cell.point) == (row, point) and variant in cell.variants
        }

    def scores(self, line: str, point: str | None, score: str) -> dict[int, float]:
        """Return a score of a line at a point, by seed."""
        runs = self.runs(line, point)
        return {seed: sampled.scores[score] for seed, (_, sampled) in runs.items() if score in sampled.scores}

    def to_json(self) -> str:
        """Return the content of docs/results/NAME.json; the same results give the same bytes."""
        return json.dumps(self.model_dump(), indent=1) + "\n"


def read_results(path: Path) -> Results:
    """Read docs/results/NAME.json. Raises UserError if it is missing or of another version."""
    try:
        return Results.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); `cspipe study {path.stem}` makes it") from None
    except ValidationError as error:
        problem = f"not written by this version ({first_problem(error)})"
        raise UserError(f"{path}: {problem}; run `cspipe study {path.stem}`") from None
