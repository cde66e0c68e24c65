"""Definition of a study by its folder studies/NAME: params.yaml, as a rule an overlay, and study.yaml, what is varied.

Every row x point x seed is a cell: one run of the pipeline, and one DVC experiment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cspipe.config.overlays import read_layers, set_keys
from cspipe.config.params import Params
from cspipe.config.params_file import parse_params, read_yaml
from cspipe.report.collect import first_problem
from cspipe.runtime.errors import UserError
from cspipe.runtime.settings import Number, Section, WholeNumber
from cspipe.study.names import NAME, STUDIES, check_name

Name = Annotated[str, Field(pattern=NAME)]
NEARER = "nearer 0"
BETTER = {
    "frechet": "lower",
    "kid": "lower",
    "precision": "higher",
    "recall": "higher",
    "inception_score": "higher",
    "nearest_ratio": "higher",
    "psnr": "higher",
    "ssim": "higher",
    "l1": "lower",
    "lpips_alex": "lower",
    "lpips_vgg": "lower",
    "efflite0_distance": "lower",
    "exposure_75": NEARER,
    "exposure_50": NEARER,
    "exposure_25": NEARER,
    "exposure_10": NEARER,
}
"""Scores in metrics files, and which direction is better."""


def _known_score(name: str) -> str:
    if name not in BETTER:
        raise ValueError(f"no score {name!r}; there are {', '.join(BETTER)}")
    return name


Score = Annotated[str, AfterValidator(_known_score)]
Changes = dict[str, Any]
ROW_VARIANTS = "variants"
"""Key of a row that names its variants, in place of the study's."""


class Claim(Section):
    """A sentence of the paper, and the comparison that decides it."""

    text: str = Field(min_length=1, description="the claim, in the paper's words")
    kind: Literal["lower", "higher", "speedup", "equal-time"] = Field(description="how the two are compared")
    row: str = Field(description="line of the table that the claim is about: a row, or `row / variant`")
    than: str = Field(description="line that it is compared with")
    score: Score = Field(description="what is compared")
    point: str | None = Field(default=None, description="where it is compared; null: the last point")
    than_point: str | None = Field(default=None, description="where the other line stands; null: at the same point")
    factor: Annotated[Number, Field(ge=1)] = Field(default=1.0, description="speedup that the claim promises at least")


class Study(Section):
    """Content of study.yaml."""

    question: str = Field(min_length=1, description="what the study answers")
    seeds: list[WholeNumber] = Field(min_length=1, description="`seed` of params.yaml, a cell for each")
    rows: dict[Name, Changes] = Field(min_length=1, description="what is compared: changes of dotted keys of params")
    points: dict[Name, Changes] = Field(default={}, description="where it is compared: changes of dotted keys")
    axis: str = Field(default="", description="what the points are; numeric names of points make a curve")
    variants: list[str] = Field(min_length=1, description="variants of params.yaml that are sampled and scored")
    scores: list[Score] = Field(min_length=1, description="columns of the table, the main one first")
    claims: list[Claim] = Field(default=[], description="what is decided")
    discussion: str = Field(default="", description="what was found and why, Markdown for the page; written afterwards")

    @model_validator(mode="after")
    def _agrees(self) -> Study:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has one twice: {self.seeds}")
        if self.points and not self.axis:
            raise ValueError("axis must say what the points are")
        if self.is_curve and sorted(self.points, key=float) != list(self.points):
            raise ValueError(f"points must ascend: {', '.join(self.points)}")
        for row in self.rows:
            named = self.variants_of(row)
            if not (isinstance(named, list) and named and all(isinstance(name, str) for name in named)):
                raise ValueError(f"rows.{row}.{ROW_VARIANTS}: a list of names of variants, not {named!r}")
        known = {"row": self.lines(), "than": self.lines(), "score": self.scores}
        known |= {"point": self.points, "than_point": self.points}
        for number, claim in enumerate(self.claims):
            for key, names in known.items():
                name = getattr(claim, key)
                if name is not None and name not in names:
                    raise ValueError(f"claims.{number}.{key}: no {name!r} here; there are {', '.join(names)}")
            if claim.kind in ("speedup", "equal-time") and not self.is_curve:
                raise ValueError(f"claims.{number}.kind: {claim.kind} needs two points or more with numeric names")
        return self

    @property
    def is_curve(self) -> bool:
        """Whether the points are numbers along an axis."""
        return len(self.points) > 1 and all(re.fullmatch(r"\d+(\.\d+)?", name) for name in self.points)

    def variants_of(self, row: str) -> list[str]:
        """Return the variants that a row is sampled with."""
        found: list[str] = self.rows[row].get(ROW_VARIANTS, self.variants)
        return found

    def lines(self) -> dict[str, tuple[str, str]]:
        """Map names of table lines to (row, variant): a name is the row, and the variant too if there are several."""
        pairs = [(row, variant) for row in self.rows for variant in self.variants_of(row)]
        one = len({variant for _, variant in pairs}) == 1
        return {row if one else f"{row} / {variant}": (row, variant) for row, variant in pairs}


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str
    """Name of its DVC experiment."""
    row: str
    point: str | None
    seed: int
    variants: tuple[str, ...]
    tree: dict[str, Any]
    """Content of its params.yaml, with only its own variants."""
    params: Params


@dataclass(frozen=True)
class Defined:
    """A study as its folder defines it, every cell checked."""

    name: str
    study: Study
    cells: tuple[Cell, ...]


def read_study(root: Path, name: str) -> Study:
    """Read study.yaml of a study. Raises UserError naming file, key and fix."""
    check_name(root, name)
    file = STUDIES / name / "study.yaml"
    try:
        return Study.model_validate(read_yaml(root / file))
    except ValidationError as error:
        raise UserError(f"{file}: {first_problem(error)}; correct it there") from None


def define(root: Path, name: str) -> Defined:
    """Read a study with all its cells, each validated like params.yaml. Raises UserError naming file, key and fix."""
    study = read_study(root, name)
    file = STUDIES / name / "params.yaml"
    base = read_layers(root / file).tree
    parse_params(base, str(file))
    cells = tuple(_cells(name, study, base))
    names = [cell.name for cell in cells]
    for twin in {each for each in names if names.count(each) > 1}:
        raise UserError(f"{STUDIES / name / 'study.yaml'}: two cells are named {twin}; rename a row or a point")
    return Defined(name, study, cells)


def _cells(name: str, study: Study, base: Mapping[str, Any]) -> Iterator[Cell]:
    """Yield cells in the order they run: neighbours differ in the seed, so no two wait for the same training."""
    file = STUDIES / name / "study.yaml"
    points: list[str | None] = [*study.points] or [None]
    for point in points:
        for row, changes in study.rows.items():
            parts = [name, row, *([] if point is None else [point])]
            tree = dict(base)
            for kind, chosen in (("rows", changes), ("points", study.points.get(point or "", {}))):
                owner = f"{file}: {kind}.{row if kind == 'rows' else point}"
                if kind == "points" and ROW_VARIANTS in chosen:
                    raise UserError(f"{owner}: {ROW_VARIANTS} cannot be changed here; name them in the study or a row")
                if "seed" in chosen:
                    raise UserError(f"{owner}: seed cannot be changed here; `seeds` has them")
                tree = set_keys(tree, {key: chosen[key] for key in chosen if key != ROW_VARIANTS}, owner)
            variants = tuple(study.variants_of(row))
            _check_variants(variants, tree["variants"], f"{file}: rows.{row}")
            tree["variants"] = {variant: tree["variants"][variant] for variant in variants}
            for seed in study.seeds:
                params, cell = {**tree, "seed": seed}, "-".join([*parts, str(seed)])
                yield Cell(cell, row, point, seed, variants, params, parse_params(params, f"{file}: cell {cell}"))


def _check_variants(variants: tuple[str, ...], known: Changes, owner: str) -> None:
    unknown = [name for name in variants if name not in known]
    if unknown or not variants:
        listed = ", ".join(known)
        raise UserError(f"{owner}: no variant {', '.join(unknown)} in the study's params.yaml; it has {listed}")
