"""Reads the outputs of the other stages under one root folder into a Report."""

from __future__ import annotations

import base64
import csv
import io
import math
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from PIL import Image
from pydantic import ValidationError

from cspipe.config.params import Params
from cspipe.report.results import Columns, EmbeddedImage, Index, Metrics, ModelConfig, Report, VariantResult
from cspipe.runtime.errors import UserError
from cspipe.sampling.settings import Variant

PREPARE, TRAIN, COMPENSATE, SAMPLE, EVALUATE = (
    f"dvc repro {stage}" for stage in ("prepare", "train", "compensate", "sample", "evaluate")
)
NORM = ("t", "norm_ratio", "error")
CURVES = {
    "loss": ("train/plots/metrics/loss.tsv", ("step", "loss"), TRAIN),
    "grad_norm": ("train/plots/metrics/grad_norm.tsv", ("step", "grad_norm"), TRAIN),
    "share": ("train/plots/metrics/share.tsv", ("step", "share"), TRAIN),
    "module_loss": ("compensate/plots/metrics/loss.tsv", ("step", "loss"), COMPENSATE),
    "norm": ("norm.tsv", NORM, COMPENSATE),
    "train_norm": ("train-norm.tsv", NORM, TRAIN),
    "schedule": ("schedule.tsv", ("t", "alpha_bar", "kappa"), TRAIN),
}
"""Curves by name: file below curves/, columns that are read (`step`: images seen), and command that makes the file."""
WIDEST, JPEG_QUALITY = 1600, 90


def collect(root: Path, params: Params) -> Report:
    """Read everything that the report shows from the files under `root`.

    Raises UserError naming the first file that is missing or malformed and the command that makes it, and where two
    variants were not scored against the same reference with the same extractor.
    """
    results = [_variant(root, name, variant) for name, variant in params.variants.items()]
    _check_comparable(root, params, results)
    prepared, main, module = root / "data/prepared", root / "models/main", root / "models/compensation"
    curves: dict[str, Columns] = {"share": {"step": [], "share": []}}
    for curve, (file, columns, command) in CURVES.items():
        if curve != "share" or params.train.method != "plain":  # plain training has no compensated share
            curves[curve] = read_columns(root / "curves" / file, columns, command)
    with reading(prepared / "index.json", PREPARE) as content:
        index = Index.model_validate_json(content)
    return Report(
        params=params,
        params_text=yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
        index=index,
        preview=read_image(prepared / "preview.png", PREPARE),
        progress=read_image(main / "progress.png", TRAIN),
        parameters=_parameters(main / "config.json", TRAIN),
        module_parameters=_parameters(module / "config.json", COMPENSATE),
        results=results,
        curves=curves,
    )


def remove_gone(root: Path, variants: Collection[str]) -> list[str]:
    """Remove samples, neighbours and metrics under `root` of all but these variants; return the names of those gone.

    `dvc repro` leaves them in folders that the report depends on. Nothing is lost: DVC's cache has the samples and
    neighbours, git the metrics.
    """
    gone = set()
    for facts in root.glob("samples/*/samples.json"):
        if (name := facts.parent.name) not in variants:
            shutil.rmtree(facts.parent)
            gone.add(name)
    for file in (*root.glob("neighbours/*.png"), *root.glob("metrics/*.json")):
        if file.stem not in variants:
            file.unlink()
            gone.add(file.stem)
    return sorted(gone)


def _variant(root: Path, name: str, settings: Variant) -> VariantResult:
    """Read the scores and images of one variant."""
    with reading(root / f"metrics/{name}.json", EVALUATE) as content:
        metrics = Metrics.model_validate_json(content)
    grid = read_image(root / f"samples/{name}/grid.png", SAMPLE)
    return VariantResult(name, settings, metrics, grid, read_image(root / f"neighbours/{name}.png", EVALUATE))


def _check_comparable(root: Path, params: Params, results: list[VariantResult]) -> None:
    """Raise UserError unless all variants were scored by the extractor of params.yaml against the same reference."""
    wanted, first = params.evaluate.extractor, results[0]
    for result in results:
        where, found = root / f"metrics/{result.name}.json", result.metrics.provenance[0]
        if found.extractor != wanted:
            raise _unusable(where, f"scored with {found.extractor}, params.yaml says {wanted}", EVALUATE)
        if found.reference_sha256 != first.metrics.provenance[0].reference_sha256:
            raise UserError(
                f"{where}: scored against other images than metrics/{first.name}.json; `{EVALUATE}` scores all anew"
            )


def _parameters(path: Path, command: str) -> int:
    with reading(path, command) as content:
        return ModelConfig.model_validate_json(content).parameters


@contextmanager
def reading(path: Path, command: str) -> Iterator[bytes]:
    """Yield a file's content; an error of reading or parsing it becomes a UserError with `command`, which makes it."""
    try:
        yield path.read_bytes()
    except FileNotFoundError:
        raise _unusable(path, "is missing", command) from None
    except ValidationError as error:
        raise _unusable(path, first_problem(error), command) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise _unusable(path, str(error), command) from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem that pydantic found, as `key: message`."""
    problem = error.errors()[0]
    return ": ".join(filter(None, [".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")]))


def _unusable(path: Path, problem: str, command: str) -> UserError:
    return UserError(f"{path}: {problem}; `{command}` makes this file")


def read_columns(path: Path, names: tuple[str, ...], command: str) -> Columns:
    """Read the columns `names` of a TSV file with a header, as floats; an empty cell is NaN. Raises UserError."""
    columns: Columns = {name: [] for name in names}
    with reading(path, command) as content:
        rows = csv.DictReader(io.StringIO(content.decode()), delimiter="\t")
        for name in names:
            if name not in (rows.fieldnames or []):
                raise ValueError(f"has no column {name!r}")
        for number, row in enumerate(rows, start=2):
            for name in names:
                try:
                    columns[name].append(float(row[name] or math.nan) if row[name] is not None else float("none"))
                except ValueError:
                    raise ValueError(f"line {number} has no number in column {name!r}") from None
    return columns


def read_image(path: Path, command: str) -> EmbeddedImage:
    """Read a PNG as a data URI; one wider than WIDEST pixels becomes a JPEG of that width, to keep pages light."""
    with reading(path, command) as content:
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
        except (OSError, SyntaxError):
            raise ValueError("is not a whole image") from None
    if image.width <= WIDEST:
        return EmbeddedImage(_data_uri("png", content), image.width, image.height)
    small = image.convert("RGB").resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, format="JPEG", quality=JPEG_QUALITY)
    return EmbeddedImage(_data_uri("jpeg", jpeg.getvalue()), small.width, small.height)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
