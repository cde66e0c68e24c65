"""Outputs of variants that params.yaml no longer has: `dvc repro` leaves them in folders that the report depends on."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path


def remove_gone(root: Path, variants: Collection[str]) -> list[str]:
    """Remove samples, neighbours and metrics under `root` of all variants but these; returns whose they were.

    Nothing is lost: DVC's cache has the samples and neighbours, git the metrics.
    """
    gone = set()
    for facts in root.glob("samples/*/samples.json"):
        if (name := facts.parent.name) not in variants:
            shutil.rmtree(facts.parent)
            gone.add(name)
    for file in (*root.glob("neighbours/*.png"), *root.glob("metrics/*.json")):
        if file.stem not in variants:
            file.unlink()
            gone.add(file.stem)
    return sorted(gone)
