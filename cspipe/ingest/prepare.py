"""The work of the prepare stage: from a source of images to a folder of shards with an index and a preview."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from cspipe.data.grid import display_scale, grid, save_png
from cspipe.data.shards import INDEX, Shards, open_split
from cspipe.data.user_masks import UserMasks
from cspipe.ingest.images import FORMATS, Form, fit
from cspipe.ingest.intake import LISTED, SPLITS, Intake
from cspipe.ingest.source import Source, find_source, form_of
from cspipe.ingest.user_masks import read_masks
from cspipe.runtime.files import whole_folder
from cspipe.runtime.progress import Progress
from cspipe.runtime.provenance import code_ids

if TYPE_CHECKING:
    from cspipe.ingest.settings import DataSettings

PREVIEW_IMAGES, PREVIEW_COLUMNS, PREVIEW_PIXELS = 64, 8, 128


def prepare(data: DataSettings, out: Path, work: Path, workers: int | None = None, masks: Path | None = None) -> int:
    """Write the images that `data` describes to the folder `out`, all or nothing; return their number.

    The masks in the folder `masks` are written there too; None: no masks.
    Finished shards wait in a folder of `work`, named by parameters, images and code, until all are written: after an
    interruption the same call resumes. Other folders of `work` are removed. `workers` processes (None: one per core)
    and interruptions do not change the result. Memory does not grow with the number of images. Raises UserError if
    the source cannot be used, or a split stays empty.
    """
    source = find_source(data)
    user_masks = None if masks is None else read_masks(masks, data.size)
    folder = work / _key(data, source)
    for other in set(work.iterdir() if work.is_dir() else []) - {folder}:
        shutil.rmtree(other)
    intake = Intake(folder, form_of(data))
    with Progress("prepare", source.total, intake.items) as progress:
        for item in source.stream(workers, intake.items):
            intake.add(item)
            progress.advance(1)
    splits = intake.finish()
    _publish(intake, user_masks, out, describe(data, source, splits, intake))
    shutil.rmtree(folder)
    if intake.skipped_count:
        print(f"prepare: {intake.summary()}; {out / INDEX} lists up to {LISTED}", file=sys.stderr)
    if others := source.facts.get("other_kinds"):
        print(f"prepare: files left out: {others}; it reads {', '.join(FORMATS)}", file=sys.stderr)
    if intake.enlarged:
        print(f"prepare: {intake.enlarged} images enlarged, as they are smaller than {data.size}", file=sys.stderr)
    return sum(splits[split]["images"] for split in SPLITS)


def _key(data: DataSettings, source: Source) -> str:
    """Return the name of the folder of unfinished work: a digest of the parameters, the files read, and the code."""
    code = code_ids("cspipe/data", "cspipe/ingest", f"cspipe/sources/{data.source}.py", "cspipe/tasks/deocclude.py")
    parts = [data.model_dump(mode="json"), source.stamp, PIL.__version__, code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _publish(intake: Intake, masks: UserMasks | None, out: Path, index: dict[str, Any]) -> None:
    """Write the finished shards, the masks, the index and the preview to `out`. The intake keeps its shards."""
    with whole_folder(out) as folder:
        for shard in (shard for writer in intake.writers.values() for shard in writer.shards):
            try:
                (folder / shard["file"]).hardlink_to(intake.folder / shard["file"])
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(intake.folder / shard["file"], folder / shard["file"])
        if masks is not None:
            masks.save(folder)
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        save_png(preview(open_split(folder, "train", verify=False)), folder / "preview.png")


def describe(data: DataSettings, source: Source, splits: dict[str, dict[str, Any]], intake: Intake) -> dict[str, Any]:
    """Return the content of the index of the prepared data."""
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
        **({"enlarged": intake.enlarged} if intake.enlarged else {}),
    }


def preview(train: Shards) -> Image.Image:
    """Draw a grid of 8 x 8 images from all over the train split, or of 4 x 8 pairs; large images are shrunk."""
    halves = [train, train.paired] if train.paired else [train]
    count = min(PREVIEW_IMAGES // len(halves), len(train))
    numbers = np.linspace(0, len(train) - 1, count).astype(np.int64)
    shown = [_shown(images.gather(numbers[i : i + 1])[0]) for i in range(count) for images in halves]
    return grid(np.stack(shown), PREVIEW_COLUMNS, display_scale(train.shape[-1]))


def _shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (C, H, W), shrunk to PREVIEW_PIXELS if it is larger."""
    if image.shape[-1] <= PREVIEW_PIXELS:
        return image
    form = Form(PREVIEW_PIXELS, image.shape[0], "stretch")
    return fit(Image.fromarray(image.transpose(1, 2, 0).squeeze()), form)
