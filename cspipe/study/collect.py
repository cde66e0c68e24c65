"""The numbers of finished cells: scores from the experiments, seconds from lineage records, sizes from parameters."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import yaml

from cspipe.config.workload import costs, path_flop, sample_flop
from cspipe.runtime.git import git
from cspipe.runtime.records import find_here
from cspipe.study.definition import BETTER, Cell, Claim, Defined
from cspipe.study.names import STUDIES
from cspipe.study.repository import Repository
from cspipe.study.results import Result, Results, Sampled, Setting

Record = dict[str, Any]


def cell_result(repository: Repository, cell: Cell, ref: str | None, failed: str | None) -> Result:
    """Collect a cell's numbers; `ref` is the git reference of its experiment, None with the reason in `failed`."""
    main, module = costs(cell.params)
    trained = _training(repository, cell, ref)
    snapshot = cell.params.variants[cell.variants[0]].snapshot
    return Result(
        row=cell.row,
        point=cell.point,
        seed=cell.seed,
        experiment=cell.name,
        commit=repository.commit if ref is None else "".join(ref.split("/")[2:4]),
        images=snapshot or cell.params.train.images,
        parameters=main.parameters,
        flop=main.training + path_flop(cell.params, main, module),
        train_seconds=None if snapshot else trained.get("seconds"),
        images_per_second=trained.get("images_per_second"),
        variants={} if ref is None else {name: _sampled(repository, cell, ref, name) for name in cell.variants},
        failed=failed,
    )


def _training(repository: Repository, cell: Cell, ref: str | None) -> Record:
    """Return the lineage record of a cell's main net; empty if there is none."""
    if ref is None:
        return {}
    return _record(repository, _metrics(repository, ref, cell.variants[0])["provenance"][0]["model_sha256"])


def _sampled(repository: Repository, cell: Cell, ref: str, variant: str) -> Sampled:
    metrics = _metrics(repository, ref, variant)
    provenance = metrics["provenance"][0]
    fitted = provenance["module_sha256"]
    main, module = costs(cell.params)
    return Sampled(
        scores=scores_of(metrics),
        compensate_seconds=_record(repository, fitted).get("seconds") if fitted else None,
        sample_seconds=_record(repository, provenance["samples_sha256"]).get("seconds"),
        flop=sample_flop(cell.params.variants[variant], main, module),
    )


def _metrics(repository: Repository, ref: str, variant: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(git(repository.root, "show", f"{ref}:metrics/{variant}.json"))
    return tree


def _record(repository: Repository, sha256: str) -> Record:
    return find_here(sha256, repository.root) or {}


def scores_of(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the scores in a metrics file, by name."""
    flat = {name: value for section in metrics.values() if isinstance(section, dict) for name, value in section.items()}
    return {name: flat[name] for name in BETTER if isinstance(flat.get(name), (int, float))}


def collect(
    repository: Repository,
    defined: Defined,
    done: dict[str, str],
    failed: dict[str, str],
    jobs: int,
    wall_seconds: float,
) -> Results:
    """Collect all results of a study from experiments of cells that are done and reasons of failed ones, by name."""
    cells = [cell_result(repository, cell, done.get(cell.name), failed.get(cell.name)) for cell in defined.cells]
    trainings = [found for cell in defined.cells if (found := _training(repository, cell, done.get(cell.name)))]
    trained = trainings[0] if trainings else {}
    params = defined.cells[0].params
    data = params.data
    style = f" {data.avatars.style}" if data.source == "avatars" else ""
    limit = "all" if data.limit is None else f"{data.limit:,}"
    setting = Setting(
        commit=repository.commit,
        data=f"{data.source}{style}, {data.size} pixels, {limit} images",
        extractor=params.evaluate.extractor,
        images=params.evaluate.images,
        reference_images=_reference_images(repository, defined, done),
        processor=" and ".join(sorted({str(found.get("device", "unknown")) for found in trainings})) or "unknown",
        cores=len(os.sched_getaffinity(0)),
        jobs=jobs,
        python=trained.get("python", "unknown"),
        torch=trained.get("torch", "unknown"),
        wall_seconds=wall_seconds,
    )
    claimed, late = _claimed(repository, defined, cells)
    return Results(name=defined.name, study=defined.study, setting=setting, claimed=claimed, late=late, cells=cells)


def _reference_images(repository: Repository, defined: Defined, done: dict[str, str]) -> int | None:
    """Return the number of reference images of the first cell that is done, the same in all; None if no cell is."""
    for cell in defined.cells:
        if cell.name in done:
            return int(_metrics(repository, done[cell.name], cell.variants[0])["provenance"][0]["reference_images"])
    return None


def _claimed(repository: Repository, defined: Defined, cells: Sequence[Result]) -> tuple[str, list[str]]:
    """Return the commit of the last change of study.yaml before the first run, and the claims written after a run."""
    file = str(STUDIES / defined.name / "study.yaml")
    commits = dict.fromkeys(cell.commit for cell in cells)
    ordered = git(repository.root, "rev-list", "--no-walk=sorted", "--reverse", *commits).splitlines()
    written = [yaml.safe_load(git(repository.root, "show", f"{commit}:{file}")).get("claims", []) for commit in ordered]
    known = [[Claim.model_validate(claim) for claim in claims] for claims in written]
    late = [claim.text for claim in defined.study.claims if not all(claim in claims for claims in known)]
    return git(repository.root, "log", "-1", "--format=%H", ordered[0], "--", file), late
