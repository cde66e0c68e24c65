"""The `cspipe` command: params.yaml, questions about stages and files, own pictures, and the local stack.

The work itself is run by `dvc repro`, or by the flows. What only some commands need is imported by them.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from cspipe.cli import params
from cspipe.cli.apply import deocclude, inpaint
from cspipe.cli.inspect import experiments, explain, lineage
from cspipe.cli.study import study
from cspipe.runtime.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train diffusion models with compensation sampling, reproducibly. `dvc repro` runs the pipeline of dvc.yaml "
    "with the values of params.yaml; the commands here help with params.yaml, explain what runs and where files come "
    "from, and start servers and workers for `prefect deployment run`.",
)
for command in (explain, lineage, experiments, inpaint, deocclude, study):
    app.command()(command)
app.add_typer(params.app, name="params")


def up(
    detach: Annotated[bool, typer.Option("--detach", help="return when all is ready; `cspipe down` stops it")] = False,
    s3: Annotated[str | None, typer.Option(help="s3://bucket/prefix to use; a store here if not given")] = None,
    port: Annotated[int | None, typer.Option(help="of Prefect's server; 4200 or another free one if not given")] = None,
) -> None:
    """Start Prefect's server, an S3 store and workers on this machine, and register all deployments."""
    from flows.local.stack import up

    up(detach, s3, port)


def down() -> None:
    """Stop what `cspipe up` started in this folder."""
    from flows.local.stack import down

    down()


def status() -> None:
    """Show what runs and whether it is well; exit status 1 if not."""
    from flows.local.stack import status

    raise typer.Exit(0 if status() else 1)


def worker(pool: Annotated[str, typer.Argument(help="cpu or gpu")]) -> None:
    """Start this machine's workers of a pool, one per GPU for gpu; the server's address is PREFECT_API_URL."""
    from flows.local.workers import worker

    worker(pool)


def add_offered(app: typer.Typer) -> None:
    """Add the commands that others offer as entry points of `cspipe.commands`: functions, or a typer.Typer of several.

    One whose module is not there is left out: flows is code of the repository, not of the wheel.
    """
    for entry in sorted(entry_points(group="cspipe.commands"), key=lambda entry: entry.name):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != entry.module.partition(".")[0]:
                raise
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


add_offered(app)
if not entry_points(group="cspipe.commands"):  # until flows offers them
    for name, stack_command in (("up", up), ("down", down), ("status", status), ("worker", worker)):
        app.command(name)(stack_command)


def main() -> None:
    """Entry point: errors that people can put right are one message, not a traceback."""
    try:
        app()
    except UserError as error:
        print(f"cspipe: {error}", file=sys.stderr)
        raise SystemExit(1) from None
