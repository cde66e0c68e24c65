"""The `cspipe` command: params.yaml, questions about stages and files, own pictures, and the local stack.

The work itself is run by `dvc repro`, or by the flows. What only some commands need is imported by them.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
import yaml

from cspipe.cli.apply import deocclude, inpaint
from cspipe.cli.inspect import experiments, explain, lineage
from cspipe.cli.study import study
from cspipe.config.params_file import load_params, parse_params
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file

PARAMS = Path("params.yaml")
PRESETS = files("cspipe.config") / "presets"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train diffusion models with compensation sampling, reproducibly. `dvc repro` runs the pipeline of dvc.yaml "
    "with the values of params.yaml; the commands here help with params.yaml, explain what runs and where files come "
    "from, and start servers and workers for `prefect deployment run`.",
)
app.command()(explain)
app.command()(lineage)
app.command()(experiments)
app.command()(inpaint)
app.command()(deocclude)
app.command()(study)
params_app = typer.Typer(no_args_is_help=True, help="Presets: complete params files, one per data set and size.")
app.add_typer(params_app, name="params")

Name = Annotated[str, typer.Argument(help="preset; `cspipe params list` prints them")]


def preset_names() -> list[str]:
    """Names of the presets in the package, sorted."""
    return sorted(path.name.removesuffix(".yaml") for path in PRESETS.iterdir() if path.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset as it stands in its file. Raises UserError listing what exists."""
    if name not in preset_names():
        raise UserError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")


@params_app.command("list")
def list_presets() -> None:
    """Print the presets, each with the first line of its file."""
    for name in preset_names():
        print(f"{name:20} {preset_text(name).splitlines()[0].removeprefix('# ')}")


@params_app.command()
def show(name: Name) -> None:
    """Print a preset with its comments, and below it what follows from it: sizes, work, memory, passes."""
    text = preset_text(name)
    print(text, flush=True)
    from cspipe.config.workload import derived  # torch takes seconds to import

    print(derived(parse_params(yaml.safe_load(text), f"preset {name}")), end="")


@params_app.command()
def use(name: Name, force: Annotated[bool, typer.Option(help="overwrite a params.yaml of your own")] = False) -> None:
    """Make a preset the params.yaml of this folder."""
    text = preset_text(name)
    if PARAMS.exists() and not force and PARAMS.read_text() not in map(preset_text, preset_names()):
        raise UserError(f"{PARAMS} has changes that no preset has; keep a copy, then use --force")
    with whole_file(PARAMS) as beside:
        beside.write_text(text, encoding="utf-8")
    print(f"{PARAMS} is now {name}; `dvc repro` runs it")


@params_app.command()
def check(file: Annotated[Path, typer.Argument(help="params file")] = PARAMS) -> None:
    """Check a params file as every stage does before it works."""
    params = load_params(file)
    print(f"{file}: fine ({params.data.source}, {params.data.size} pixels, {', '.join(params.variants)})")


for command in sorted(entry_points(group="cspipe.commands"), key=lambda found: found.name):
    try:
        app.command(command.name)(command.load())
    except ModuleNotFoundError as error:
        if not f"{command.module}.".startswith(f"{error.name}."):
            raise  # else the module is of a checkout, and this is an installed wheel


def main() -> None:
    """Entry point: errors that people can put right are one message, not a traceback."""
    try:
        app()
    except UserError as error:
        print(f"cspipe: {error}", file=sys.stderr)
        raise SystemExit(1) from None
