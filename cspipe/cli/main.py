"""The `cspipe` command: params.yaml, questions about stages and files, own images, and the local stack.

The work itself is run by `dvc repro`, or by the flows. What only some commands need is imported by them.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from cspipe.cli import params
from cspipe.cli.apply import deocclude, inpaint
from cspipe.cli.doctor import doctor
from cspipe.cli.exchange import export, import_model, sample
from cspipe.cli.init import init
from cspipe.cli.inspect import experiments, explain, lineage
from cspipe.cli.models import card, models
from cspipe.cli.plan import plan
from cspipe.cli.serve import serve
from cspipe.cli.study import study
from cspipe.runtime.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    help="Train diffusion models with compensation sampling, reproducibly. `dvc repro` runs the pipeline of dvc.yaml "
    "with the values of params.yaml; the commands here help with params.yaml, explain what runs and where files come "
    "from, and start servers and workers for `prefect deployment run`.",
)
COMMANDS = (
    init, doctor, explain, lineage, experiments, inpaint, deocclude, sample, serve, export, models, card, study, plan
)  # fmt: skip


def tell_version(asked: bool) -> None:
    """Print the version and end, if asked for it."""
    if asked:
        print(f"cspipe {version('cspipe')}")
        raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=tell_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Of every command, before its name. `quiet` sets a variable, which also reaches what a command starts."""
    if quiet:
        os.environ["CSPIPE_QUIET"] = "1"


for command in COMMANDS:
    app.command()(command)
app.command("import")(import_model)
app.add_typer(params.app, name="params")


def add_offered(app: typer.Typer) -> None:
    """Add the commands that others offer as entry points of `cspipe.commands`.

    One whose module is not there is left out: flows is code of the repository, not of the wheel.
    """
    for entry in sorted(entry_points(group="cspipe.commands"), key=lambda entry: entry.name):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != entry.module.partition(".")[0]:
                raise
            continue
        app.command(entry.name)(command)


add_offered(app)


def main() -> None:
    """Entry point: errors that people can put right are one message, not a traceback."""
    try:
        app()
    except UserError as error:
        print(f"cspipe: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prefect":
            raise
        fix = "`uv sync` installs it, or `pip install --group flows`"
        print(f"cspipe: Prefect is not installed; {fix}", file=sys.stderr)
        raise SystemExit(1) from None
