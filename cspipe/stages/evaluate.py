"""Stage evaluate: scores of one variant's samples, and whether they copy training pictures."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cspipe.config.params_file import load_params
from cspipe.data.grid import save_png
from cspipe.data.held_out import families_of, picture_numbers
from cspipe.data.shards import Shards, open_split
from cspipe.evaluation.baselines import baselines
from cspipe.evaluation.extractors import find_extractor
from cspipe.evaluation.neighbours import Neighbours, nearest, nearest_ratio, sheet
from cspipe.evaluation.paired import paired_scores
from cspipe.evaluation.perceptual import open_perceptual
from cspipe.evaluation.scores import Measure, bracket, score
from cspipe.evaluation.settings import EvaluateSettings
from cspipe.evaluation.sources import ArraySource, NoiseSource, Pictures, Source, Watched
from cspipe.runtime.device import Device, open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.progress import Progress
from cspipe.runtime.provenance import stage_code
from cspipe.stages.stage import PREPARED, stage

SAMPLES, METRICS, NEIGHBOURS, FEATURES = Path("samples"), Path("metrics"), Path("neighbours"), Path(".cspipe/features")
QUERIES, PER_QUERY = 256, 3
"""Samples whose nearest training pictures are sought, and how many of these."""
EXPOSED_AT = (75, 50, 25, 10)
"""Where on the way the exposure bias is told, in percent of T; the nearest step of the walk counts."""


@dataclass(frozen=True)
class Sets:
    """The sets of pictures of one evaluation."""

    samples: ArraySource
    made: dict[str, Any]
    """How the samples were made."""
    train: Shards
    test: Shards


def main() -> None:
    """Read params.yaml, data/prepared and samples/<variant>; write metrics/<variant>.json, neighbours/<variant>.png."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    with stage(f"evaluate@{name}") as log:
        params = load_params()
        if name not in params.variants:
            raise UserError(f"no variant {name!r} in params.yaml; it has {', '.join(params.variants)}")
        device = open_device(params.compute)
        log.device = device.name
        train, test = open_split(PREPARED, "train"), open_split(PREPARED, "test")
        sets = Sets(*read_samples(name, train.shape), train, test)
        with Progress(f"evaluate {name}", 4 * params.evaluate.images) as progress:
            metrics = measure_scores(sets, params.evaluate, device, progress)
            progress.advance(progress.total)  # features that were cached are not read again
        if sets.made["families"]:
            pairs = measure_pairs(name, sets, params.evaluate, device)
            metrics["truth"] = {measure: interval["mean"] for measure, interval in pairs["result"]["all"].items()}
            metrics["paired"] = [pairs]  # as a list, which `dvc metrics show` leaves out: it is long
        metrics["memorisation"] = {"nearest_ratio": write_neighbours(name, sets, params.evaluate, device)}
        if bias := exposure_of(name):
            metrics["exposure"] = bias
        with whole_file(METRICS / f"{name}.json") as beside:
            beside.write_text(json.dumps(rounded(metrics), indent=2) + "\n")
        log.images(metrics["provenance"][0]["samples_images"])


def read_samples(variant: str, shape: tuple[int, ...]) -> tuple[ArraySource, dict[str, Any]]:
    """A variant's samples and how they were made. Raises UserError if they are missing or no pictures of `shape`."""
    file, facts = SAMPLES / variant / "samples.npy", SAMPLES / variant / "samples.json"
    command = f"`dvc repro sample@{variant}`"
    try:
        images = np.load(file, mmap_mode="r")
        made = json.loads(facts.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not there; {command} makes it") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{file.parent}: not readable ({error}); remove it and run {command}") from None
    if images.dtype != np.uint8 or images.shape[1:] != tuple(shape):
        found = f"{images.dtype} pictures {images.shape[1:]}"
        raise UserError(f"{file}: {found}, but data/prepared has uint8 pictures {tuple(shape)}; run {command}")
    return ArraySource(images, sha256_file(file)), made


def measure_scores(sets: Sets, settings: EvaluateSettings, device: Device, progress: Progress) -> dict[str, Any]:
    """Scores, bracket and provenance, as they stand in a metrics file."""
    extractor = find_extractor(settings.extractor, settings.weights)
    subsets, size = settings.kid_subsets, settings.kid_subset_size
    measure = Measure(extractor, settings.batch, subsets, size, device.device, FEATURES)
    sources = sets.samples, sets.train, sets.test
    samples, train, test = (Pictures(source, settings.images, progress.advance) for source in sources)
    reference, held_out = (train, test) if settings.reference == "train" else (test, train)
    noise = NoiseSource(len(samples), tuple(sets.train.shape))
    provenance = {
        **{key: value for key, value in sets.made.items() if key != "images"},
        "samples_sha256": samples.source.sha256,
        "samples_images": len(samples),
        "reference": settings.reference,
        "reference_sha256": reference.source.sha256,
        "reference_images": len(reference),
        "heldout_images": len(held_out),
        "channels": sets.train.shape[0],
        "size": sets.train.shape[-1],
        "extractor": extractor.name,
        "extractor_weights_sha256": extractor.sha256,
        "kid_subsets": subsets,
        "kid_subset_size": measure.subset_size(samples, reference),
        "code": {**sets.made["code"], "evaluate": stage_code("evaluate")},
        **{name.replace("-", "_"): version(name) for name in ("torch", "torchvision", "torch-fidelity")},
        "device": device.name,
    }
    scores = score(samples, reference, measure)
    between = bracket(held_out, reference, noise, measure)
    return {extractor.label: scores, "bracket": between, "provenance": [provenance]}


def measure_pairs(variant: str, sets: Sets, settings: EvaluateSettings, device: Device) -> dict[str, Any]:
    """Scores of results against the truth and of what costs nothing, per family. Raises UserError."""
    file = SAMPLES / variant / "inputs.npy"
    if sets.made["inputs_sha256"] != sets.test.sha256 or not file.is_file():
        raise UserError(f"{file}: not of the held-out pictures in data/prepared; run `dvc repro sample@{variant}`")
    count = min(settings.images, len(sets.samples))
    families = families_of(0, count, sets.made["families"])
    inputs = np.array(np.load(file, mmap_mode="r")[:count])
    numbers = picture_numbers(0, count, len(sets.made["families"]))
    results, truths = sets.samples.gather(np.arange(count)), sets.test.gather(numbers)
    extractor = find_extractor(settings.extractor, settings.weights)
    with Progress(f"baselines {variant}", 2 * len(sets.train)) as read:
        rivals = baselines(sets.made["task"], inputs, Watched(sets.train, read.advance), device.device)
    answers = {"result": results, **rivals}
    with Progress(f"pairs {variant}", len(answers) * count, unit="pairs") as compared:
        perceptual = open_perceptual(settings.lpips, extractor, device.device, compared.advance)
        return {
            name: paired_scores(pictures, truths, numbers, families, perceptual) for name, pictures in answers.items()
        }


def exposure_of(variant: str) -> dict[str, float]:
    """Variance of x_t along sampling minus that of the forward process, at shares of T; empty where not measured."""
    try:
        with (SAMPLES / variant / "exposure.tsv").open(newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file, delimiter="\t")]
    except FileNotFoundError:  # a walk that goes up has more than one state at a step
        return {}
    top = max(row["t"] for row in rows)
    nearest = {percent: min(rows, key=lambda row: abs(row["t"] - percent / 100 * top)) for percent in EXPOSED_AT}
    return {f"exposure_{percent}": row["sampled"] - row["forward"] for percent, row in nearest.items()}


def write_neighbours(variant: str, sets: Sets, settings: EvaluateSettings, device: Device) -> float | None:
    """Write the sheet of nearest training pictures; return how near samples are, relative to held-out pictures."""

    def near(source: Source, train: Source) -> Neighbours:
        """The nearest training pictures of the first pictures of a source."""
        queries = source.gather(np.arange(min(QUERIES, settings.images, len(source))))
        return nearest(queries, train, PER_QUERY, device.device)

    with Progress(f"neighbours {variant}", 2 * len(sets.train)) as progress:
        train = Watched(sets.train, progress.advance)
        samples, held_out = near(sets.samples, train), near(sets.test, train)
    with whole_file(NEIGHBOURS / f"{variant}.png") as beside:
        save_png(sheet(samples, held_out, sets.train, settings.neighbours), beside)
    return nearest_ratio(samples, held_out)


def rounded(value: Any) -> Any:
    """A JSON tree whose floats have six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
