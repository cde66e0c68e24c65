"""The numbers of finished cells: scores from the experiments, seconds from lineage records, sizes from parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cspipe.config.params import Params
from cspipe.config.workload import costs
from cspipe.lineage.records import find_here
from cspipe.runtime.registry import find
from cspipe.study.clone import Clone, git
from cspipe.study.definition import BETTER, Cell, Defined
from cspipe.study.results import Result, Results, Sampled, Setting

Record = dict[str, Any]
METHODS = "cspipe.methods"
MOMENTS = 1000
"""Of training, at which the share of its path is looked at."""


class Collector:
    """Reads what finished cells of a clone have measured; `lender` has their lineage records."""

    def __init__(self, clone: Clone, lender: Path) -> None:
        self.clone, self.lender = clone, lender
        self.made: list[Record] = []
        """Records of the main nets seen."""

    def result(self, cell: Cell, ref: str | None, failed: str | None) -> Result:
        """A cell's numbers; `ref` is its experiment, None with the reason in `failed`."""
        main, module = costs(cell.params)
        files = {} if ref is None else {variant: self._metrics(ref, variant) for variant in cell.variants}
        trained = self._record(next(iter(files.values()))["provenance"][0]["model_sha256"]) if files else {}
        if trained:
            self.made.append(trained)
        return Result(
            row=cell.row,
            point=cell.point,
            seed=cell.seed,
            experiment=cell.name,
            commit=self.clone.commit if ref is None else ref.split("/")[2] + ref.split("/")[3],
            images=cell.params.train.images,
            parameters=main.parameters,
            flop=main.training + _path_flop(cell.params, main.forward, module.forward),
            train_seconds=trained.get("seconds"),
            images_per_second=trained.get("images_per_second"),
            variants={name: self._sampled(tree, cell.params, name) for name, tree in files.items()},
            failed=failed,
        )

    def setting(self, defined: Defined, jobs: int, wall_seconds: float) -> Setting:
        """What the cells share; call it when their results have been collected."""
        params, made = defined.cells[0].params, self.made[0] if self.made else {}
        data = params.data
        style = f" {data.avatars.style}" if data.source == "avatars" else ""
        limit = "all" if data.limit is None else f"{data.limit:,}"
        return Setting(
            commit=self.clone.commit,
            data=f"{data.source}{style}, {data.size} pixels, {limit} pictures",
            extractor=params.evaluate.extractor,
            images=params.evaluate.images,
            processor=made.get("device", "unknown"),
            cores=len(os.sched_getaffinity(0)),
            jobs=jobs,
            python=made.get("python", "unknown"),
            torch=made.get("torch", "unknown"),
            wall_seconds=wall_seconds,
        )

    def _sampled(self, metrics: dict[str, Any], params: Params, variant: str) -> Sampled:
        provenance = metrics["provenance"][0]
        module = provenance["module_sha256"]
        main_cost, module_cost = costs(params)
        forward = main_cost.forward + (module_cost.forward if module else 0)
        return Sampled(
            scores=scores_of(metrics),
            compensate_seconds=self._record(module).get("seconds") if module else None,
            sample_seconds=self._record(provenance["samples_sha256"]).get("seconds"),
            flop=forward * params.variants[variant].steps,
        )

    def _metrics(self, ref: str, variant: str) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(git(self.clone.root, "show", f"{ref}:metrics/{variant}.json"))
        return tree

    def _record(self, sha256: str) -> Record:
        return find_here(sha256, self.lender) or {}


def scores_of(metrics: dict[str, Any]) -> dict[str, float]:
    """The scores in a metrics file, by name."""
    flat = {name: value for section in metrics.values() if isinstance(section, dict) for name, value in section.items()}
    return {name: flat[name] for name in BETTER if isinstance(flat.get(name), (int, float))}


def _path_flop(params: Params, main: int, module: int) -> int:
    """FLOP that an image takes on the path of train.method, besides the step itself; averaged over all images seen.

    `main` and `module` are those of a forward pass. That the module is fit in its epochs is not counted.
    """
    settings, name = params.train.compensation, params.train.method
    share = find(METHODS, name, "share")
    mean: float = sum(share(settings, (i + 0.5) / MOMENTS) for i in range(MOMENTS)) / MOMENTS
    passes = settings.gap if name == "scheduled_sampling" else 1
    return round(mean * (passes * main + (module if find(METHODS, name, "USES_MODULE") else 0)))


def collect(collector: Collector, defined: Defined, ended: dict[str, tuple[str | None, str | None]], jobs: int,
            wall_seconds: float) -> Results:  # fmt: skip
    """All results of a study; `ended` has each cell's (experiment, reason of failure)."""
    cells = [collector.result(cell, *ended[cell.name]) for cell in defined.cells]
    setting = collector.setting(defined, jobs, wall_seconds)
    return Results(name=defined.name, study=defined.study, setting=setting, cells=cells)
