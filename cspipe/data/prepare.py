"""From a source to a folder of shards with an index and a preview."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cspipe.data.images import Form, fit
from cspipe.data.shards import INDEX, Shards, ShardWriter, open_split, sha256_of
from cspipe.data.sources import Picture, Skipped, Source, Split, find_source, form_of
from cspipe.errors import UserError
from cspipe.files import whole_folder
from cspipe.pictures import display_scale, grid, save_png
from cspipe.progress import Progress

if TYPE_CHECKING:
    from cspipe.params import Data

SPLITS: tuple[Split, Split] = ("train", "test")
LISTED, NAMED = 100, 5
"""Skipped pictures that the index lists, and that the summary names."""
PREVIEW_IMAGES, PREVIEW_COLUMNS, PREVIEW_PIXELS = 64, 8, 128


def prepare(data: Data, out: Path, workers: int | None = None) -> int:
    """Bring the pictures that `data` describes into the folder `out`, whole or not at all; return how many.

    `workers` processes (None: one per core) do not change the result. Memory does not grow with the number of pictures.
    Raises UserError if the source cannot be used, or a split stays empty.
    """
    source = find_source(data)
    with whole_folder(out) as folder:
        intake = Intake(folder, form_of(data))
        with Progress("prepare", source.total) as progress:
            for item in source.stream(workers):
                intake.add(item)
                progress.advance(1)
        splits = intake.finish()
        index = describe(data, source, splits, intake)
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        save_png(preview(open_split(folder, "train", verify=False)), folder / "preview.png")
    if intake.skipped_count:
        print(f"prepare: {intake.summary()}; {out / INDEX} lists up to {LISTED}", file=sys.stderr)
    return sum(splits[split]["images"] for split in SPLITS)


class Intake:
    """Takes the items of a stream to the shards they belong to, and keeps account of those skipped."""

    def __init__(self, folder: Path, form: Form) -> None:
        names = [name for split in SPLITS for name in (split, f"{split}-paired")]
        self.writers = {name: ShardWriter(folder, name, form.shape) for name in names}
        self.skipped: list[Skipped] = []
        self.skipped_count = 0

    def add(self, item: Picture | Skipped) -> None:
        """Write a picture and its pair, or note why there is none."""
        if isinstance(item, Picture):
            self.writers[item.split].add(item.pixels)
            if item.paired is not None:
                self.writers[f"{item.split}-paired"].add(item.paired)
            return
        self.skipped_count += 1
        if len(self.skipped) < LISTED:
            self.skipped.append(Skipped(repr(item.name)[1:-1], item.reason))  # printable, whatever the name

    def finish(self) -> dict[str, dict[str, Any]]:
        """Write what waits for a full shard; the index entry of each split. Raises UserError if one is empty."""
        for writer in self.writers.values():
            writer.flush()
        return {split: self._entry(split) for split in SPLITS}

    def _entry(self, split: str) -> dict[str, Any]:
        shards, paired = self.writers[split].shards, self.writers[f"{split}-paired"].shards
        if not shards:
            raise UserError(
                f"params.yaml: data: no usable picture is left for the {split} split; {self.summary()}; repair them, "
                "or take more pictures"
            )
        entry = {"images": sum(shard["images"] for shard in shards), "sha256": sha256_of(shards), "shards": shards}
        return {**entry, "paired_shards": paired} if paired else entry

    def summary(self) -> str:
        """The skipped pictures in one line: how many, and the first few with their reasons."""
        named = "; ".join(f"{item.name}: {item.reason}" for item in self.skipped[:NAMED])
        more = f"; and {self.skipped_count - NAMED} more" if self.skipped_count > NAMED else ""
        return f"{self.skipped_count} pictures skipped ({named}{more})"


def describe(data: Data, source: Source, splits: dict[str, dict[str, Any]], intake: Intake) -> dict[str, Any]:
    """The content of the index."""
    return {
        "source": data.source,
        "crop": data.crop,
        "paired": "none",
        **source.facts,
        "size": data.size,
        "channels": data.channels,
        "splits": splits,
        "skipped": [asdict(item) for item in intake.skipped],
        "skipped_count": intake.skipped_count,
    }


def preview(train: Shards) -> Image.Image:
    """8 x 8 pictures from all over the train split; of pairs 4 x 8, each beside its twin. Large ones shrunk."""
    count = PREVIEW_IMAGES // 2 if train.paired else PREVIEW_IMAGES
    numbers = np.linspace(0, len(train) - 1, min(count, len(train))).astype(np.int64)
    pictures = train.gather(numbers)
    if train.paired:
        both = np.stack([pictures, train.paired.gather(numbers)], axis=1)
        pictures = both.reshape(-1, *train.shape)
    if train.shape[-1] > PREVIEW_PIXELS:
        form = Form(PREVIEW_PIXELS, train.shape[0], "stretch")
        pictures = np.stack([fit(Image.fromarray(picture.transpose(1, 2, 0).squeeze()), form) for picture in pictures])
    return grid(pictures, PREVIEW_COLUMNS, display_scale(train.shape[-1]))
