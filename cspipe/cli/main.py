"""The `cspipe` command: its subcommands for params.yaml, stages, files, models, own images and the local stack.

The pipeline itself is run by `dvc repro`, or by the flows. Modules that only some commands need are imported in those.
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


def print_version(asked: bool) -> None:
    """Print the version and exit, if asked for it."""
    if asked:
        print(f"cspipe {version('cspipe')}")
        raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    """Options of all commands, before their names. `quiet` sets an environment variable, for child processes too."""
    if quiet:
        os.environ["CSPIPE_QUIET"] = "1"


for command in COMMANDS:
    app.command()(command)
app.command("import")(import_model)
app.add_typer(params.app, name="params")


def add_registered(app: typer.Typer) -> None:
    """Add the commands that are registered as entry points in the group `cspipe.commands`.

    A command whose package is missing is left out: `flows` is in the repository, but not in the wheel.
    """
    for entry in sorted(entry_points(group="cspipe.commands"), key=lambda entry: entry.name):
        try:
            command = entry.load()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != entry.module.partition(".")[0]:
                raise
            continue
        app.command(entry.name)(command)


add_registered(app)


def main() -> None:
    """Run the command line; errors that users can correct become one message and exit status 1, not a traceback."""
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
