"""Draw docs/tasks.png: `uv run python docs/tasks.py INPAINT DEOCCLUDE`, the folders of two finished runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from overview import titled
from PIL import Image

from cspipe.data.grid import comparison, save_png
from cspipe.data.shards import open_split

ROWS, VARIANT = 7, "ddim-10"


def panel(run: Path) -> Image.Image:
    """Some results of a run beside inputs and truths."""
    folder = run / "samples" / VARIANT
    families = len(json.loads((folder / "samples.json").read_text())["families"])
    results, inputs = (np.load(folder / name, mmap_mode="r") for name in ("samples.npy", "inputs.npy"))
    # another image and another family in each row
    chosen = np.arange(ROWS) * (families + 1 if families > 1 else 1) % len(results)
    truths = open_split(run / "data/prepared", "test").gather(chosen // families)
    return comparison(inputs[chosen][:, : results.shape[1]], results[chosen], truths, pairs=1)


def main() -> None:
    """Both tasks side by side."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("inpaint", type=Path)
    parser.add_argument("deocclude", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/tasks.png"))
    options = parser.parse_args()
    titles = ("inpainting: input, result, truth, difference", "de-occlusion: input, result, truth, difference")
    runs = (options.inpaint, options.deocclude)
    panels = {title: panel(run) for title, run in zip(titles, runs, strict=True)}
    save_png(titled(panels, least_width=380), options.out)


if __name__ == "__main__":
    main()
