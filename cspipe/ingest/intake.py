"""Writing of a stream of images to shards, in blocks: after an interruption it resumes after the last whole block."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cspipe.data.shards import ShardWriter, sha256_of, shard_length
from cspipe.ingest.images import Form
from cspipe.ingest.source import PreparedImage, Skipped, Split
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file, whole_file
from cspipe.runtime.wording import printable

PROGRESS = "progress.json"
SPLITS: tuple[Split, Split] = ("train", "test")
LISTED, NAMED = 100, 5
"""Number of skipped images that the index lists, and that the summary names, at most."""


class Intake:
    """Writes the items of a stream to the shards of their split, and records those skipped.

    A block has as many items as a shard holds. After each block all writers flush their images, and progress.json
    records the state. A new Intake on the same folder resumes there, so blocks and shards are always the same.
    """

    def __init__(self, folder: Path, form: Form) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.block = folder, shard_length(form.shape)
        kept = self._kept()
        self.items: int = kept["items"]
        """Number of items added so far; before the first `add`, the number that progress.json records."""
        names = [name for split in SPLITS for name in (split, f"{split}-paired")]
        self.writers = {name: ShardWriter(folder, name, form.shape, kept["shards"].get(name, [])) for name in names}
        self.skipped = [Skipped(**item) for item in kept["skipped"]]
        self.skipped_count: int = kept["skipped_count"]
        self.enlarged: int = kept["enlarged"]

    def _kept(self) -> dict[str, Any]:
        """Read progress.json; give the state of a fresh start if it or a shard that it names is missing or damaged."""
        nothing = {"items": 0, "shards": {}, "skipped": [], "skipped_count": 0, "enlarged": 0}
        path = self.folder / PROGRESS
        if not path.exists():
            return nothing
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            for shard in (shard for shards in kept["shards"].values() for shard in shards):
                if sha256_file(self.folder / shard["file"]) != shard["sha256"]:
                    raise ValueError(f"{shard['file']} is damaged")
        except (OSError, ValueError, KeyError) as error:
            print(f"prepare: {self.folder} cannot be used ({error}); starting anew", file=sys.stderr)
            return nothing
        return kept

    def add(self, item: PreparedImage | Skipped) -> None:
        """Write an image and its paired image, or record why it was skipped."""
        if isinstance(item, PreparedImage):
            self.writers[item.split].add(item.pixels)
            self.enlarged += item.enlarged
            if item.paired is not None:
                self.writers[f"{item.split}-paired"].add(item.paired)
        else:
            self.skipped_count += 1
            if len(self.skipped) < LISTED:
                self.skipped.append(Skipped(printable(item.name), printable(item.reason)))
        self.items += 1
        if self.items % self.block == 0:
            self._keep()

    def _keep(self) -> None:
        for writer in self.writers.values():
            writer.flush()
        kept = {
            "items": self.items,
            "shards": {name: writer.shards for name, writer in self.writers.items()},
            "skipped": [asdict(item) for item in self.skipped],
            "skipped_count": self.skipped_count,
            "enlarged": self.enlarged,
        }
        with whole_file(self.folder / PROGRESS) as beside:
            beside.write_text(json.dumps(kept), encoding="utf-8")

    def finish(self) -> dict[str, dict[str, Any]]:
        """Write the last block and return the index entry of each split. Raises UserError if a split is empty."""
        self._keep()
        return {split: self._entry(split) for split in SPLITS}

    def _entry(self, split: str) -> dict[str, Any]:
        shards, paired = self.writers[split].shards, self.writers[f"{split}-paired"].shards
        if not shards:
            raise UserError(
                f"params.yaml: data: no usable image is left for the {split} split; {self.summary()}; repair them, "
                "or take more images"
            )
        images = sum(shard["images"] for shard in shards)
        entry = {"images": images, "sha256": sha256_of([*shards, *paired]), "shards": shards}
        return {**entry, "paired_shards": paired} if paired else entry

    def summary(self) -> str:
        """Describe the skipped images in one line: how many, and the first few with their reasons."""
        named = "; ".join(f"{item.name}: {item.reason}" for item in self.skipped[:NAMED])
        more = f"; and {self.skipped_count - NAMED} more" if self.skipped_count > NAMED else ""
        images = "image" if self.skipped_count == 1 else "images"
        return f"{self.skipped_count} {images} skipped ({named}{more})"
