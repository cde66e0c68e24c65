"""`cspipe explain`, `lineage` and `experiments`: questions about stages, files and scores, which change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="print all that is known as JSON")]


def explain(
    stage: Annotated[str, typer.Argument(help="such as train or sample@cs-100; without it, a line for each")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell why a stage would run or be skipped, before it does."""
    from cspipe.explain import explain, explain_all, table  # DVC takes seconds to import

    found = [explain(Path(), stage)] if stage else explain_all(Path())
    if as_json:
        trees = [each.as_json() for each in found]
        print(json.dumps(trees[0] if stage else trees, indent=2))
    else:
        print(found[0].text() if stage else table(found))


def lineage(
    file: Annotated[str, typer.Argument(help="a model, samples, metrics, or an s3:// address of one")],
    as_json: AsJson = False,
) -> None:
    """Tell where a file comes from: code, parameters, data, machine, and the files it was made from."""
    from cspipe.lineage.text import as_json as tree_of
    from cspipe.lineage.text import text
    from cspipe.lineage.trace import trace

    origin = trace(file, Path())
    print(json.dumps(tree_of(origin), indent=2) if as_json else text(origin))


def experiments(
    commits: Annotated[int, typer.Option("--num", "-n", min=1, help="of the last commits, each with its own")] = 1,
) -> None:
    """Compare DVC's experiments: what differs, and the scores of each variant."""
    from rich.console import Console

    from cspipe.cli.experiments import read_experiments, table

    Console().print(table(read_experiments(Path(), commits)))
