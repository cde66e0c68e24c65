"""`cspipe sample`, `export` and `import`: a model as a thing of its own, outside of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Option(help="folder of a main net")]
Compensation = Annotated[Path | None, typer.Option(help="folder of its net C, such as models/compensation")]


def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write")],
    model: Model = Path("models/main"),
    sampler: Annotated[str, typer.Option(help="a file of cspipe/samplers")] = "ddim",
    steps: Annotated[int, typer.Option(min=1, help="evaluations of the net, twice as many with heun")] = 10,
    n: Annotated[int, typer.Option(min=1, max=4096, help="images")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="of the first image; the others follow")] = 0,
    compensation: Compensation = None,
) -> None:
    """Draw samples of a model as one grid; neither params.yaml nor data nor DVC is needed."""
    from cspipe.cli.apply import check_png, write_png
    from cspipe.exchange.draw import draw

    check_png(out)
    write_png(draw(model, sampler, steps, n, seed, compensation), out)
    corrected = "" if compensation is None else ", compensated"
    print(f"{out}: {n} samples, {steps} steps of {sampler}{corrected}, seeds {seed} to {seed + n - 1}")
