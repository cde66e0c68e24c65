"""What a study has measured, as docs/results/NAME.json has it; the table and the figure are made from it alone."""

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
    """A variant of a cell."""

    scores: dict[str, float]
    """By name; only those that its metrics file has."""
    compensate_seconds: float | None
    """To fit the module that its sampler needs; None: it needs none, or the time is not recorded."""
    sample_seconds: float | None
    flop: int
    """Of one sample."""


class Result(Section):
    """A cell that has run, or has failed."""

    row: str
    point: str | None
    seed: int
    experiment: str
    commit: str
    """The code that it ran with, as a commit of the repository."""
    images: int
    """Images seen in training."""
    parameters: int
    """Of the main net."""
    flop: int
    """Of one image in training: forward and backward pass of the main net, and what its method adds on average."""
    train_seconds: float | None
    """None: not recorded."""
    images_per_second: float | None
    variants: dict[str, Sampled]
    failed: str | None
    """Why there are no scores, in a line."""


class Setting(Section):
    """What every cell shares, and the machine they ran on."""

    commit: str
    data: str
    """The set of images, in words."""
    extractor: str
    images: int
    """N, of each side of a comparison, at most."""
    reference_images: int | None = None
    """Images that samples are compared with; earlier results do not tell."""
    processor: str
    cores: int
    jobs: int
    python: str
    torch: str
    wall_seconds: float
    """Of the command, over all its starts."""


class Results(Section):
    """All that a study has measured."""

    name: str
    study: Study
    setting: Setting
    claimed: str
    """The commit that wrote the claims, the last one of study.yaml before the first run."""
    late: list[str]
    """Texts of the claims that study.yaml did not have, word for word and number for number, when every cell ran."""
    cells: list[Result]

    @property
    def points(self) -> list[str | None]:
        """Names of the points; [None] for a study without any."""
        return list(self.study.points) or [None]

    def runs(self, line: str, point: str | None) -> dict[int, tuple[Result, Sampled]]:
        """Finished cells of a line at a point, with what its variant has measured, by seed."""
        row, variant = self.study.lines()[line]
        return {
            cell.seed: (cell, cell.variants[variant])
            for cell in self.cells
            if (cell.row, cell.point) == (row, point) and variant in cell.variants
        }

    def scores(self, line: str, point: str | None, score: str) -> dict[int, float]:
        """A score of a line at a point, by seed."""
        runs = self.runs(line, point)
        return {seed: sampled.scores[score] for seed, (_, sampled) in runs.items() if score in sampled.scores}

    def to_json(self) -> str:
        """Content of docs/results/NAME.json; the same results give the same bytes."""
        return json.dumps(self.model_dump(), indent=1) + "\n"


def read_results(path: Path) -> Results:
    """Read docs/results/NAME.json. Raises UserError."""
    try:
        return Results.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); `cspipe study {path.stem}` makes it") from None
    except ValidationError as error:
        problem = f"not written by this version ({first_problem(error)})"
        raise UserError(f"{path}: {problem}; run `cspipe study {path.stem}`") from None
