"""Split the mean square error in the holes of the study `inpaint`, which its PSNR measures, in two.

    uv run cspipe study inpaint && uv run python studies/inpaint/variance.py

Every hole is filled eight times. The mean square error of a result is the variance of these eight, which a method can
lower without knowing more, and the square error of their mean: what is left unknown, and the net's bias. Writes
docs/results/inpaint-variance.tsv, a line for each cell and variant, and prints the means over seeds with their 95 %
intervals and the differences from the first row. In units of pixels from -1 to 1, in the holes alone.

Expectation, written before the run on the seeds of the study, from a cell each of seed 2 (T = 10): nine tenths of what
the rows `own-step` and `cs` gain on `plain` is variance, and the rest differs by less than .005.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from dvc.api import DVCFileSystem
from numpy.typing import NDArray

from cspipe.data.conditions import hole_of
from cspipe.data.held_out import image_numbers
from cspipe.evaluation.paired import psnr
from cspipe.runtime.device import open_device
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.progress import Progress
from cspipe.runtime.stage import COMPENSATION, MAIN, PREPARED
from cspipe.sampling.batches import Sampler
from cspipe.stages.conditions import open_held_out
from cspipe.stages.nets import finished_denoiser
from cspipe.stages.sample import new_sampler
from cspipe.study.definition import Cell, define
from cspipe.study.repository import experiments
from cspipe.study.results import RESULTS as PAGES
from cspipe.study.statistics import Interval, difference, interval

STUDY, RESULTS = "inpaint", 8
"""Name of the study; number of results for each hole."""
Measured = dict[str, float]
Line = dict[str, str | float]
KEYS = ("row", "point", "variant", "seed")
ERRORS = ("error", "variance", "rest")
NUMBERS = (*ERRORS, "psnr")


def split(results: NDArray[np.uint8], truths: NDArray[np.uint8], holes: NDArray[np.bool_]) -> Measured:
    """Return the mean square error of results (K, N, C, H, W) in holes (N, 1, H, W), its unbiased parts, and PSNR."""
    inside = np.broadcast_to(holes, truths.shape)
    pixels, truth = results / 127.5, truths / 127.5
    variance = pixels.var(0, ddof=1)
    rest = (pixels.mean(0) - truth) ** 2 - variance / len(results)
    return {
        "error": float(((pixels - truth) ** 2).mean(0)[inside].mean()),
        "variance": float(variance[inside].mean()),
        "rest": float(rest[inside].mean()),
        "psnr": float(np.mean([psnr(each, truths).mean() for each in results])),
    }


def measure(cell: Cell) -> Iterator[tuple[str, Measured]]:
    """Yield each variant of a cell with its measurements; nets and images are in the current folder."""
    device = open_device(cell.params.compute)
    denoise, config = finished_denoiser(device, MAIN)
    for name in cell.variants:
        held_out = open_held_out(cell.params, name)
        assert held_out is not None, "the task has a truth"
        inputs = held_out(0, held_out.count)
        truths = held_out.images.gather(image_numbers(0, held_out.count, len(held_out.conditions.families)))
        sampler = new_sampler(cell.params.variants[name], denoise, config, device)
        results = np.stack([fill(sampler, inputs, i * len(inputs), cell.params.sample.batch) for i in range(RESULTS)])
        yield name, split(results, truths, hole_of(inputs))


def fill(sampler: Sampler, inputs: NDArray[np.uint8], seed: int, batch: int) -> NDArray[np.uint8]:
    """Return a result for each of the inputs, from consecutive seeds that start at `seed`."""
    seeds = list(range(seed, seed + len(inputs)))
    spans = [slice(start, start + batch) for start in range(0, len(inputs), batch)]
    return np.concatenate([sampler(seeds[span], inputs[span]) for span in spans])


def measure_all(root: Path) -> Iterator[Line]:
    """Yield the table's lines, cell by cell, from the experiments in this clone. Raises UserError if one is missing."""
    cells, known = define(root, STUDY).cells, experiments(root)
    if missing := [cell.name for cell in cells if cell.name not in known]:
        raise UserError(f"{len(missing)} of {len(cells)} cells are not here; run `uv run cspipe study {STUDY}` first")
    with Progress(f"variance {STUDY}", len(cells), unit="cells") as progress:
        for cell in cells:
            with TemporaryDirectory() as folder:
                files = DVCFileSystem(str(root), rev=known[cell.name])
                corrected = any(variant.correction for variant in cell.params.variants.values())
                for output in (PREPARED, MAIN, *[COMPENSATION] * corrected):
                    files.get(str(output), str(Path(folder, output)), recursive=True)
                with chdir(folder):
                    measured = list(measure(cell))
            for variant, numbers in measured:
                line: Line = dict(zip(KEYS, (cell.row, cell.point or "", variant, cell.seed), strict=True))
                yield line | {key: float(f"{value:.6g}") for key, value in numbers.items()}
            progress.advance(1)


def summary(lines: Sequence[Line]) -> Iterator[str]:
    """Yield the lines of a Markdown table: means over seeds, and how each row differs from the first at its point."""
    yield f"| | {' | '.join([*NUMBERS, *(f'{name} - first' for name in ERRORS)])} |"
    yield "|---|" + "---:|" * len(NUMBERS + ERRORS)
    places: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        places.setdefault((str(line["point"]), str(line["row"]), str(line["variant"])), []).append(line)
    firsts: dict[str, list[Line]] = {}
    for place, seeds in places.items():
        first = firsts.setdefault(place[0], seeds)
        means = [interval(_column(seeds, number)) for number in NUMBERS]
        gains = [difference(_column(seeds, number), _column(first, number)) for number in ERRORS]
        yield f"| {' / '.join(filter(None, place))} | {' | '.join(map(_text, means + gains))} |"


def _column(lines: Sequence[Line], number: str) -> list[float]:
    return [float(line[number]) for line in lines]


def _text(found: Interval) -> str:
    return f"{found.mean:.4g} [{found.low:.4g}, {found.high:.4g}]"


def main() -> None:
    """Measure all cells of the study; write the table, print the summary."""
    root = Path.cwd()
    lines = list(measure_all(root))
    with whole_file(root / PAGES / f"{STUDY}-variance.tsv") as beside, beside.open("w", newline="") as file:
        table = csv.DictWriter(file, (*KEYS, *NUMBERS), delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    print("\n".join(summary(lines)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
