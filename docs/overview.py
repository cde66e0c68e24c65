"""Draw docs/overview.png from a finished run: `uv run python docs/overview.py`, after `dvc repro`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cspipe.data.grid import grid, save_png
from cspipe.data.shards import open_split

COLUMNS, ROWS, SCALE, MARGIN, HEADING = 6, 4, 3, 24, 34


def titled(panels: dict[str, Image.Image], least_width: int = 0) -> Image.Image:
    """Panels side by side on white, each below its title."""
    width = max(least_width, *(panel.width for panel in panels.values()))
    height = max(panel.height for panel in panels.values())
    canvas = Image.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + HEADING + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=17)
    for column, (title, panel) in enumerate(panels.items()):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 8), title, fill="black", font=font)
        canvas.paste(panel, (left, HEADING))
    return canvas


def main() -> None:
    """Data, plain samples and compensated samples, side by side."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path(), help="folder of a finished run")
    parser.add_argument("--variants", nargs=2, default=("ddim-100", "cs-100"), help="without and with compensation")
    parser.add_argument("--out", type=Path, default=Path("docs/overview.png"))
    options, count = parser.parse_args(), COLUMNS * ROWS
    plain, compensated = (options.run / "samples" / name / "samples.npy" for name in options.variants)
    images = {
        "images to learn from": open_split(options.run / "data/prepared", "train").gather(np.arange(count)),
        "sampled: DDIM": np.load(plain)[:count],
        "sampled: DDIM + compensation": np.load(compensated)[:count],
    }
    save_png(titled({title: grid(shown, COLUMNS, SCALE) for title, shown in images.items()}), options.out)


if __name__ == "__main__":
    main()
