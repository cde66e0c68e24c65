"""`cspipe params`: presets, and checks of params.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cspipe.cli.inspect import Json
from cspipe.config.overlays import preset_names, read_preset
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import whole_file
from cspipe.runtime.project import check_at_root

PARAMS = Path("params.yaml")

app = typer.Typer(no_args_is_help=True, help="Presets: values of params.yaml, one set per data set and size.")
Name = Annotated[str, typer.Argument(help="preset; `cspipe params list` prints them")]


@app.command("list")
def list_presets(as_json: Json = False) -> None:
    """Print the presets, each with the first line of its file."""
    found = {name: read_preset(name).header.partition("\n")[0].removeprefix("# ") for name in preset_names()}
    print(json.dumps(found, indent=2) if as_json else "\n".join(f"{name:20} {text}" for name, text in found.items()))


@app.command()
def show(
    name: Name, as_json: Annotated[bool, typer.Option("--json", help="values and origins alone, as JSON")] = False
) -> None:
    """Print the values of a preset with their source files, and what follows from them: sizes, work, memory, passes."""
    preset = read_preset(name)
    if as_json:
        print(json.dumps({"values": preset.tree, "origins": preset.origins}, indent=2))
        return
    print(preset.text(origins=True), flush=True)
    from cspipe.config.params_file import parse_params  # torch takes seconds to import
    from cspipe.config.workload import derived

    print(derived(parse_params(preset.tree, f"preset {name}")), end="")


@app.command()
def use(name: Name, force: Annotated[bool, typer.Option(help="overwrite a params.yaml of your own")] = False) -> None:
    """Write a preset to the project's params.yaml, complete and with comments."""
    text = read_preset(name).text()
    check_at_root()
    presets = (read_preset(each).text().encode() for each in preset_names())
    if PARAMS.exists() and not force and PARAMS.read_bytes() not in presets:
        raise UserError(f"{PARAMS} has changes that no preset has; keep a copy, then use --force")
    with whole_file(PARAMS) as beside:
        beside.write_text(text, encoding="utf-8")
    print(f"{PARAMS} is now {name}; `dvc repro` runs it")


@app.command()
def check(file: Annotated[Path, typer.Argument(help="params file")] = PARAMS) -> None:
    """Check a params file as every stage does before it starts."""
    from cspipe.config.params_file import load_params  # torch takes seconds to import

    params = load_params(file)
    print(f"{file}: fine ({params.data.source}, {params.data.size} pixels, {', '.join(params.variants)})")
