"""Draw docs/overview.png from the results in the working tree: `uv run python docs/overview.py`, after `dvc repro`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cspipe.data.grid import grid, save_png
from cspipe.data.shards import open_split

COLUMNS, ROWS, SCALE, MARGIN, HEADING = 6, 4, 3, 24, 34


def main() -> None:
    """Data, plain samples and compensated samples, side by side."""
    count = COLUMNS * ROWS
    panels = {
        "pictures to learn from": open_split(Path("data/prepared"), "train").gather(np.arange(count)),
        "sampled: DDIM": np.load("samples/ddim-100/samples.npy")[:count],
        "sampled: DDIM + compensation": np.load("samples/cs-100/samples.npy")[:count],
    }
    pictures = {title: grid(images, COLUMNS, SCALE) for title, images in panels.items()}
    width, height = next(iter(pictures.values())).size
    canvas = Image.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + HEADING + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=17)
    for column, (title, picture) in enumerate(pictures.items()):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 8), title, fill="black", font=font)
        canvas.paste(picture, (left, HEADING))
    save_png(canvas, Path("docs/overview.png"))


if __name__ == "__main__":
    main()
