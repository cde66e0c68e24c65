"""`cspipe explain`, `lineage` and `experiments`: reports on stages, files and scores, which change nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cspipe.runtime.errors import UserError
from cspipe.runtime.project import project_root
from cspipe.runtime.wording import printable

Json = Annotated[bool, typer.Option("--json", help="print all that is known as JSON")]


def explain(
    stage: Annotated[str, typer.Argument(help="such as train or sample@cs-100; if not given, a line for each")] = "",
    as_json: Json = False,
) -> None:
    """Explain why a stage would run or be skipped, before it runs."""
    from cspipe.cli.explain import SHOWN, explain

    found = {each.stage: each for each in explain(project_root())}
    if stage and stage not in found:
        raise UserError(f"no stage {stage!r} in dvc.yaml; it has {', '.join(found)}")
    shown = [found[stage]] if stage else list(found.values())
    if as_json:
        print(json.dumps([asdict(each) for each in shown], indent=2))
        return
    for each in shown:
        print(printable(str(each)))
    for reason in found[stage].reasons[SHOWN:] if stage else ():
        print(printable(f"  {reason}"))


def lineage(
    file: Annotated[str, typer.Argument(help="a model, samples, metrics, or the s3:// address of a file")],
    as_json: Json = False,
) -> None:
    """Show where a file comes from: code, parameters, data, machine, and the files it was made from."""
    from cspipe.cli.lineage import file_of, text, trace

    try:
        try:
            root = project_root()
        except UserError:  # a file from elsewhere tells what it knows
            root = Path()
        origin = trace(file_of(file), root)
        shown = json.dumps(asdict(origin), indent=2) if as_json else text(origin)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        damaged = f"what it or a record says of its origin is damaged ({type(error).__name__}: {error})"
        raise UserError(f"{file}: {damaged}; make it anew with `dvc repro`") from None
    print(shown)


def experiments(
    commits: Annotated[int, typer.Option("--num", "-n", min=1, help="last commits whose experiments are shown")] = 1,
    as_json: Json = False,
) -> None:
    """Compare DVC's experiments: changed parameters, and the scores of each variant."""
    from rich.console import Console

    from cspipe.cli.experiments import read_experiments, table

    found = read_experiments(project_root(), commits)
    if as_json:
        print(json.dumps([[asdict(each) for each in group] for group in found], indent=2))
    else:
        Console(markup=False).print(table(found))
