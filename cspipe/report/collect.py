"""Reads the outputs of the other stages under one root folder into a Report."""

from __future__ import annotations

from pathlib import Path

import yaml

from cspipe.config.params import Params
from cspipe.report.readers import bad_file, read_columns, read_json, read_picture
from cspipe.report.results import Columns, Curves, Index, Metrics, ModelConfig, Report, VariantResult
from cspipe.runtime.errors import UserError
from cspipe.sampling.settings import Variant

PREPARE, TRAIN, COMPENSATE = "dvc repro prepare", "dvc repro train", "dvc repro compensate"
SAMPLE, EVALUATE = "dvc repro sample", "dvc repro evaluate"
NORM = ("t", "norm_ratio", "error")


def collect(root: Path, params: Params) -> Report:
    """Everything the report shows, from the files under `root`.

    Raises UserError naming the first file that is missing or malformed and the command that makes it, and where two
    variants were not scored against the same reference with the same extractor.
    """
    results = [_variant(root, name, variant) for name, variant in params.variants.items()]
    _check_comparable(root, params, results)
    prepared, main, module = root / "data/prepared", root / "models/main", root / "models/compensation"
    return Report(
        params=params,
        params_text=yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
        index=read_json(prepared / "index.json", Index, PREPARE),
        preview=read_picture(prepared / "preview.png", PREPARE),
        progress=read_picture(main / "progress.png", TRAIN),
        parameters=read_json(main / "config.json", ModelConfig, TRAIN).parameters,
        module_parameters=read_json(module / "config.json", ModelConfig, COMPENSATE).parameters,
        results=results,
        curves=_curves(root / "curves", params.train.method != "plain"),
    )


def _variant(root: Path, name: str, settings: Variant) -> VariantResult:
    """The scores and pictures of one variant."""
    metrics = read_json(root / f"metrics/{name}.json", Metrics, EVALUATE)
    return VariantResult(
        name=name,
        settings=settings,
        scores=metrics.scores,
        nearest_ratio=metrics.memorisation.nearest_ratio,
        paired=metrics.paired[0] if metrics.paired else None,
        bracket=metrics.bracket,
        provenance=metrics.provenance[0],
        grid=read_picture(root / f"samples/{name}/grid.png", SAMPLE),
        neighbours=read_picture(root / f"neighbours/{name}.png", EVALUATE),
    )


def _check_comparable(root: Path, params: Params, results: list[VariantResult]) -> None:
    """One table compares only what was measured in the same way."""
    first = results[0]
    for result in results:
        where = root / f"metrics/{result.name}.json"
        if result.provenance.extractor != params.evaluate.extractor:
            problem = f"scored with {result.provenance.extractor}, params.yaml says {params.evaluate.extractor}"
            raise bad_file(where, problem, EVALUATE)
        if result.provenance.reference_sha256 != first.provenance.reference_sha256:
            raise UserError(
                f"{where}: scored against other pictures than metrics/{first.name}.json; `{EVALUATE}` scores all anew"
            )


def _curves(folder: Path, own_steps: bool) -> Curves:
    """All curves; a share of own steps exists only with a method that takes some."""
    train, module = folder / "train/plots/metrics", folder / "compensate/plots/metrics"
    nothing: Columns = {"step": [], "share": []}
    share = train / "share.tsv"
    return Curves(
        loss=read_columns(train / "loss.tsv", ("step", "loss"), TRAIN),
        grad_norm=read_columns(train / "grad_norm.tsv", ("step", "grad_norm"), TRAIN),
        share=read_columns(share, ("step", "share"), TRAIN) if own_steps else nothing,
        module_loss=read_columns(module / "loss.tsv", ("step", "loss"), COMPENSATE),
        norm=read_columns(folder / "norm.tsv", NORM, COMPENSATE),
        train_norm=read_columns(folder / "train-norm.tsv", NORM, TRAIN),
        schedule=read_columns(folder / "schedule.tsv", ("t", "alpha_bar", "kappa"), TRAIN),
    )
