"""Draw docs/tasks.png: `uv run python docs/tasks.py INPAINT DEOCCLUDE`, the folders of two finished runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cspipe.data.grid import comparison, save_png
from cspipe.data.shards import open_split

ROWS, VARIANT, MARGIN, HEADING = 7, "ddim-10", 24, 34
TITLES = ("inpainting: input, result, truth, difference", "de-occlusion: input, result, truth, difference")


def panel(run: Path) -> Image.Image:
    """Some results of a run beside inputs and truths."""
    folder = run / "samples" / VARIANT
    families = len(json.loads((folder / "samples.json").read_text())["families"])
    chosen = np.arange(ROWS) * (families + 1 if families > 1 else 1)  # another picture and another family in each row
    results, inputs = (np.load(folder / name)[chosen] for name in ("samples.npy", "inputs.npy"))
    truths = open_split(run / "data/prepared", "test").gather(chosen // families)
    return comparison(inputs[:, : results.shape[1]], results, truths, pairs=1)


def main() -> None:
    """Both tasks side by side."""
    pictures = [panel(Path(run)) for run in sys.argv[1:3]]
    width, height = pictures[0].size
    width = max(width, 380)
    canvas = Image.new("RGB", (2 * (width + MARGIN) + MARGIN, height + HEADING + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=17)
    for column, (title, picture) in enumerate(zip(TITLES, pictures, strict=True)):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 8), title, fill="black", font=font)
        canvas.paste(picture, (left, HEADING))
    save_png(canvas, Path("docs/tasks.png"))


if __name__ == "__main__":
    main()
