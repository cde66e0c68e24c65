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
for command in (explain, lineage, experiments, inpaint, deocclude, study):
    app.command()(command)
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
