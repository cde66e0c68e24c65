"""`cspipe study`: run a study of studies/, or resume it, and write its table and figure."""

from __future__ import annotations

import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

import typer

from cspipe.runtime.errors import UserError
from cspipe.runtime.git import git
from cspipe.runtime.wording import printable
from cspipe.study.names import check_name, study_names


def study(
    name: Annotated[str, typer.Argument(help="folder in studies/; if not given, the studies are listed")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="cells at a time; the table has the times with so many")] = 1,
    verify: Annotated[bool, typer.Option("--verify", help="run it anew and compare with docs/results")] = False,
    cells: Annotated[int | None, typer.Option(min=1, help="with --verify: run only so many of its cells")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the studies, or the results of one, as JSON")] = False,
) -> None:
    """Run a study of studies/, or resume it, and write its table to docs/results."""
    try:
        root = Path(git(Path(), "rev-parse", "--show-toplevel"))
    except UserError:
        raise UserError(f"{Path.cwd()}: no git clone; run this in a clone of the project") from None
    if cells is not None and not verify:
        raise UserError("--cells needs --verify: a table is made of all cells")
    if not name:
        _print_studies(root, as_json)
        return
    check_name(root, name)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM stops the workers too
    from cspipe.study.definition import define  # pydantic models and torch take seconds
    from cspipe.study.pages import table, write_pages
    from cspipe.study.run import run_study
    from cspipe.study.verify import verify as compare

    defined_study, log = define(root, name), partial(_log, sys.stderr if as_json else sys.stdout)
    if verify:
        differing = compare(defined_study, root, jobs, log, cells)
        if as_json:
            print(json.dumps({"reproduced": not differing, "differing": differing}, indent=2))
        raise typer.Exit(1 if differing else 0)
    results = run_study(defined_study, root, jobs, log)
    path = write_pages(results, root)
    print(results.to_json() if as_json else "\n".join([*table(results), str(path.relative_to(root))]))
    if any(cell.failed is not None for cell in results.cells):
        raise typer.Exit(1)


def _print_studies(root: Path, as_json: bool) -> None:
    """Print the names of the studies, the number of their cells, and their questions."""
    from cspipe.study.definition import read_study

    studies = ((name, read_study(root, name)) for name in study_names(root))
    rows = [(name, len(one.rows) * max(1, len(one.points)) * len(one.seeds), one.question) for name, one in studies]
    if as_json:
        print(json.dumps([dict(zip(("name", "cells", "question"), row, strict=True)) for row in rows], indent=2))
    for name, cells, question in () if as_json else rows:
        print(f"{name:20} {cells:4} cells  {question}")


def _log(file: TextIO, line: str) -> None:
    print(printable(line), file=file, flush=True)
