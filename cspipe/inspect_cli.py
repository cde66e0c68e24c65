"""`cspipe explain` and `cspipe lineage`: questions about stages and files, which change nothing."""

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
