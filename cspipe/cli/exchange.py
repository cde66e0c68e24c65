"""`cspipe sample`, `export` and `import`: a model on its own, outside of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from cspipe.cli.apply import as_user_error, check_png, write_png
from cspipe.runtime.errors import UserError

Model = Annotated[Path, typer.Option(help="folder of a main net")]
Schedule = Literal["linear", "cosine", "karras"]
Prediction = Literal["eps", "x0", "v", "edm"]
Compensation = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="folder of its net C, such as models/compensation")
]

STEPS_HELP = "number of steps (heun calls the net twice in each), or timesteps such as 100,60,20"


def read_steps(text: object) -> int | list[int]:
    """Parse a number of steps, or several timesteps with commas between them. Raises ValueError."""
    numbers = [int(part) for part in str(text).split(",")]
    return numbers if len(numbers) > 1 else numbers[0]


def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write")],
    model: Model = Path("models/main"),
    sampler: Annotated[str, typer.Option(help="such as ddim, heun, unipc: a file of cspipe/samplers")] = "ddim",
    steps: Annotated[Any, typer.Option(parser=read_steps, metavar="N|T,...", help=STEPS_HELP)] = 10,
    n: Annotated[int, typer.Option(min=1, max=4096, help="number of images")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="seed of the first image; the others count up")] = 0,
    compensation: Compensation = None,
) -> None:
    """Draw samples of a model as one grid; neither params.yaml nor data nor DVC is needed."""
    from cspipe.exchange.draw import draw

    check_png(out)
    write_png(draw(model, sampler, steps, n, seed, compensation), out)
    corrected = "" if compensation is None else ", compensated"
    print(f"{out}: {n} samples, {sampler}, steps {steps}{corrected}, seeds {seed} to {seed + n - 1}")


def export(
    model: Annotated[Path, typer.Argument(help="folder of a main net, such as models/main")],
    to: Annotated[Literal["diffusers", "onnx"], typer.Option(help="a folder for diffusers, or an ONNX file")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="if not given, exported or exported.onnx")] = None,
    compensation: Compensation = None,
    terminal: Annotated[
        Literal["net", "mean"] | None, typer.Option(help="estimate at t = T; if not given, as `cspipe sample` draws")
    ] = None,
) -> None:
    """Export a model, and its net C if it is named, for other tools."""
    out = out or Path("exported" if to == "diffusers" else "exported.onnx")
    check_new(out)
    from cspipe.exchange.diffusers_folder import write_diffusers
    from cspipe.exchange.onnx_file import write_onnx
    from cspipe.exchange.source import open_source

    source = open_source(model, compensation, terminal)
    with as_user_error(out):
        print(f"{out}: {(write_diffusers if to == 'diffusers' else write_onnx)(source, out)}")


def import_model(
    source: Annotated[Path, typer.Argument(help="a diffusers folder, or a file of weights: .safetensors, .pt, .bin")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the main net")] = Path("models/main"),
    schedule: Annotated[Schedule | None, typer.Option(help="noise levels of training, if no scheduler tells")] = None,
    prediction: Annotated[Prediction | None, typer.Option(help="what the net outputs, if no scheduler tells")] = None,
    size: Annotated[int, typer.Option(min=4, max=1024, help="pixels, for weights of guided-diffusion and DDPM")] = 256,
    head_channels: Annotated[int, typer.Option(min=1, max=4096, help="per attention head, for guided-diffusion")] = 64,
    steps: Annotated[int, typer.Option(min=2, max=10_000, help="T, number of noise levels, for EDM")] = 18,
) -> None:
    """Import a model of diffusers, guided-diffusion, DDPM or EDM, to sample, score and compensate it."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    check_new(out)
    from cspipe.diffusion.settings import DiffusionSettings
    from cspipe.exchange.foreign import STEPS, write_curves, write_model
    from cspipe.exchange.from_diffusers import read_folder, read_scheduler
    from cspipe.exchange.from_weights import read_weights

    known: tuple[str | None, str | None] = (None, None)
    if source.is_dir():
        (foreign, weights), known = read_folder(source), read_scheduler(source)
    else:
        foreign, weights = read_weights(source, size, head_channels, steps, prediction), source
    keys: dict[str, Any] = {"schedule": schedule or known[0] or "linear", "prediction": prediction or known[1] or "eps"}
    for key, value in (("schedule", schedule), ("prediction", prediction)):
        if value and value != foreign.diffusion.get(key, value):
            raise UserError(f"--{key} {value}: this net of {foreign.kind} is {foreign.diffusion[key]}; leave it out")
    keys |= foreign.diffusion
    diffusion = DiffusionSettings.model_validate({"steps": STEPS, "self_condition": False, **keys})
    as_trained = out == Path("models/main") and Path("dvc.yaml").exists()
    with as_user_error(out):
        config = write_model(foreign, source.absolute().name, weights, diffusion, out)
        if as_trained:
            write_curves(diffusion)
    what = f"{config['parameters']:,} parameters, {foreign.size} pixels, {keys['schedule']}, {keys['prediction']}"
    print(f"{out}: {foreign.model['name']} from {foreign.kind}, {what}")
    if Path("dvc.yaml").exists():
        values = {"data": {"channels": foreign.channels, "size": foreign.size}}
        print_settings(values | {key: config[key] for key in ("model", "diffusion")}, None if as_trained else out)


def print_settings(values: dict[str, Any], start: Path | None) -> None:
    """Print the values that params.yaml needs for an imported model; `start`: its folder if training starts from it."""
    from cspipe.runtime.files import sha256_file
    from cspipe.runtime.models import FILE

    how = "then run `dvc repro prepare && dvc commit -f train && dvc repro`: it uses the model without training it"
    if start is not None:
        values = values | {"train": {"start_from": {"folder": str(start), "sha256": sha256_file(start / FILE)}}}
        how = "then run `dvc repro`: it trains the model further"
    print(f"set in params.yaml:\n{yaml.safe_dump(values, sort_keys=False)}\n{how}")


def check_new(out: Path) -> None:
    """Check that nothing exists at `out` yet: writing would replace it. Raises UserError if something does."""
    if out.exists():
        raise UserError(f"{out} already exists; remove it, or name another place with -o")
