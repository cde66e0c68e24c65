"""What is left of a study: docs/results/NAME.json, and NAME.md, NAME.png and the page of all claims made from it."""

from __future__ import annotations

from pathlib import Path

from cspipe.runtime.files import whole_file
from cspipe.study.figure import png
from cspipe.study.overview import write_overview
from cspipe.study.results import RESULTS, Results, write_results
from cspipe.study.table import page


def report(results: Results, root: Path) -> Path:
    """Write the three files and the overview of all studies; return the study's page."""
    write_results(results, root)
    path = root / RESULTS / f"{results.name}.md"
    with whole_file(path) as beside:
        beside.write_text(page(results), encoding="utf-8")
    with whole_file(path.with_suffix(".png")) as beside:
        beside.write_bytes(png(results))
    write_overview(root)
    return path
