"""Stage evaluate: scores of one variant's samples, and whether they copy training images."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from cspipe.config.params_file import load_params
from cspipe.data.grid import save_png
from cspipe.data.held_out import families_of, image_numbers
from cspipe.data.shards import Shards, open_split
from cspipe.evaluation.baselines import baselines
from cspipe.evaluation.extractors import find_extractor
from cspipe.evaluation.image_sets import ImageSet, NoiseSource
from cspipe.evaluation.neighbours import nearest, nearest_ratio, sheet
from cspipe.evaluation.paired import paired_scores
from cspipe.evaluation.perceptual import open_perceptual
from cspipe.evaluation.scores import Measure, bracket, score
from cspipe.evaluation.settings import EvaluateSettings
from cspipe.runtime.device import Device, compute_exactly, open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.launch import start_ranks
from cspipe.runtime.progress import Progress
from cspipe.runtime.provenance import stage_code
from cspipe.runtime.ranks import rank, world
from cspipe.runtime.stage import PREPARED, stage

SAMPLES, METRICS, NEIGHBOURS, FEATURES = Path("samples"), Path("metrics"), Path("neighbours"), Path(".cspipe/features")
QUERIES, PER_QUERY = 256, 3
"""Number of samples whose nearest training images are sought, and number of these for each."""
EXPOSED_AT = (75, 50, 25, 10)
"""Timesteps at which the exposure bias is reported, in percent of T; each stands for the sampler's nearest step."""


@dataclass(frozen=True)
class Evaluation:
    """The sets of images of one evaluation, and how they are compared."""

    variant: str
    settings: EvaluateSettings
    device: Device
    samples: Shards
    made: dict[str, Any]
    """Facts of how the samples were made, from samples.json."""
    train: Shards
    test: Shards


def main() -> None:
    """Read params.yaml, data/prepared and samples/<variant>; write metrics/<variant>.json, neighbours/<variant>.png."""
    name = (sys.argv[1] if len(sys.argv) > 1 else "").rpartition("@")[2]  # the stage's name, evaluate@..., does too
    with stage(f"evaluate@{name}") as log:
        params = load_params()
        if name not in params.variants:
            raise UserError(f"no variant {name!r} in params.yaml; it has {', '.join(params.variants)}")
        start_ranks(log.stage, params.compute.model_copy(update={"nodes": 1}))  # features are kept on one machine
        device = open_device(params.compute)
        compute_exactly()
        log.device = device.name
        train, test = open_split(PREPARED, "train"), open_split(PREPARED, "test")
        run = Evaluation(name, params.evaluate, device, *read_samples(name, train.shape), train, test)
        metrics = measure_scores(run)
        if rank():
            return
        if run.made["families"]:
            pairs = measure_pairs(run)
            metrics["truth"] = {measure: interval["mean"] for measure, interval in pairs["result"]["all"].items()}
            metrics["paired"] = [pairs]  # as a list, which `dvc metrics show` leaves out: it is long
        metrics["memorisation"] = {"nearest_ratio": write_neighbours(run)}
        if bias := exposure_of(name):
            metrics["exposure"] = bias
        with whole_file(METRICS / f"{name}.json") as beside:
            beside.write_text(json.dumps(rounded(metrics), indent=2) + "\n")
        log.images(metrics["provenance"][0]["samples_images"])


def read_samples(variant: str, shape: tuple[int, int, int]) -> tuple[Shards, dict[str, Any]]:
    """Read a variant's samples, and how they were made. Raises UserError if missing, damaged or not of `shape`."""
    file, facts = SAMPLES / variant / "samples.npy", SAMPLES / variant / "samples.json"
    command = f"`dvc repro sample@{variant}`"
    try:
        images = np.load(file, mmap_mode="r")
        made = json.loads(facts.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: not there; {command} makes it") from None
    except (ValueError, EOFError, SyntaxError, TokenError) as error:  # NumPy parses a header as Python
        raise UserError(f"{file.parent}: not readable ({error}); remove it and run {command}") from None
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        found = f"{images.dtype} images {images.shape[1:]}"
        raise UserError(f"{file}: {found}, but data/prepared has uint8 images {shape}; run {command}")
    sha256 = sha256_file(file)
    if made.pop("file_sha256", sha256) != sha256:  # samples of earlier versions have none
        raise UserError(f"{file}: damaged since it was stored; remove it and run {command}")
    told, inputs = made.pop("inputs_file_sha256", None), file.with_name("inputs.npy")
    if told and not (inputs.is_file() and sha256_file(inputs) == told):
        raise UserError(f"{inputs}: damaged since it was stored; remove {inputs.parent} and run {command}")
    return Shards(shape, [images], sha256), made


def measure_scores(run: Evaluation) -> dict[str, Any]:
    """Compute the scores and their bracket, and add the provenance, as a metrics file has them."""
    settings = run.settings
    extractor = find_extractor(settings.extractor, settings.weights)
    subsets, size = settings.kid_subsets, settings.kid_subset_size
    measure = Measure(extractor, settings.batch, subsets, size, run.device.device, FEATURES)
    with Progress(f"evaluate {run.variant}", 4 * settings.images) as progress:

        def read(images: int) -> None:
            """Advance the progress by what all ranks read meanwhile."""
            progress.advance(images * world())

        sources = run.samples, run.train, run.test
        samples, train, test = (ImageSet(source, settings.images, read) for source in sources)
        noise = ImageSet(NoiseSource(len(samples), run.train.shape), on_read=read)
        reference, held_out = (train, test) if settings.reference == "train" else (test, train)
        scores = score(samples, reference, measure)
        between = bracket(held_out, reference, noise, measure)
        progress.advance(progress.total)  # features that were cached are not read again
    provenance = {
        **{key: value for key, value in run.made.items() if key not in ("images", "device")},
        "samples_sha256": samples.sha256,
        "samples_images": len(samples),
        "samples_device": run.made.get("device"),
        "reference": settings.reference,
        "reference_sha256": reference.sha256,
        "reference_images": len(reference),
        "heldout_images": len(held_out),
        "channels": run.train.shape[0],
        "size": run.train.shape[-1],
        "extractor": extractor.name,
        "extractor_weights_sha256": extractor.sha256,
        "kid_subsets": subsets,
        "kid_subset_size": measure.subset_size(samples, reference),
        "code": {**run.made["code"], "evaluate": stage_code("evaluate")},
        **{name.replace("-", "_"): version(name) for name in ("torch", "torchvision", "torch-fidelity")},
        "device": run.device.name,
    }
    return {extractor.label: scores, "bracket": between, "provenance": [provenance]}


def measure_pairs(run: Evaluation) -> dict[str, Any]:
    """Score the results, and baselines that need no net, against the truth, per family. Raises UserError."""
    file = SAMPLES / run.variant / "inputs.npy"
    if run.made["inputs_sha256"] != run.test.sha256 or not file.is_file():
        raise UserError(f"{file}: not of the held-out images in data/prepared; run `dvc repro sample@{run.variant}`")
    known, device = run.made["families"], run.device.device
    count = min(run.settings.images, len(run.samples))
    families, numbers = families_of(0, count, known), image_numbers(0, count, len(known))
    inputs = np.array(np.load(file, mmap_mode="r")[:count])
    results, truths = run.samples.gather(np.arange(count)), run.test.gather(numbers)
    with Progress(f"baselines {run.variant}", 2 * len(run.train)) as read:
        rivals = baselines(run.made["task"], inputs, ImageSet(run.train, on_read=read.advance), device)
    answers = {"result": results, **rivals}
    extractor = find_extractor(run.settings.extractor, run.settings.weights)
    with Progress(f"pairs {run.variant}", len(answers) * count, unit="pairs") as compared:
        perceptual = open_perceptual(run.settings.lpips, extractor, device, compared.advance)
        return {name: paired_scores(images, truths, numbers, families, perceptual) for name, images in answers.items()}


def exposure_of(variant: str) -> dict[str, float]:
    """Variance of x_t along sampling minus that of the forward process, at EXPOSED_AT; empty if it was not measured."""
    try:
        with (SAMPLES / variant / "exposure.tsv").open(newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file, delimiter="\t")]
    except FileNotFoundError:  # a sampler that goes back up has more than one state at a step
        return {}
    top = max(row["t"] for row in rows)
    nearest = {percent: min(rows, key=lambda row: abs(row["t"] - percent / 100 * top)) for percent in EXPOSED_AT}
    return {f"exposure_{percent}": row["sampled"] - row["forward"] for percent, row in nearest.items()}


def write_neighbours(run: Evaluation) -> float | None:
    """Write the sheet of nearest training images; return the samples' distance to them relative to held-out images'."""
    with Progress(f"neighbours {run.variant}", 2 * len(run.train)) as progress:
        train, most = ImageSet(run.train, on_read=progress.advance), min(QUERIES, run.settings.images)
        queries = (source.gather(np.arange(min(most, len(source)))) for source in (run.samples, run.test))
        samples, held_out = (nearest(images, train, PER_QUERY, run.device.device) for images in queries)
    with whole_file(NEIGHBOURS / f"{run.variant}.png") as beside:
        save_png(sheet(samples, held_out, run.train, run.settings.neighbours), beside)
    return nearest_ratio(samples, held_out)


def rounded(value: Any) -> Any:
    """Round the floats of a JSON tree to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
