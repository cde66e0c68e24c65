"""A complete tree of stage outputs, small and made up, for every test of the report."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cspipe.config.params import Params
from cspipe.config.params_file import load_params
from cspipe.data.grid import grid, save_png

SHIPPED = Path(__file__).parents[2] / "params.yaml"
KAPPA = {"name": "compensation", "weight": "kappa", "scale": 1.0, "cap": None}
HALF = {"name": "compensation", "weight": 0.5, "scale": 0.5, "cap": 0.3}
PLAIN = {"sampler": "ddim", "steps": 100, "reads": "models/main"}
VARIANTS = {
    "zz-plain": PLAIN,
    "cs-100": {**PLAIN, "reads": "models", "correction": KAPPA},
    "cs-10": {**PLAIN, "steps": 10, "reads": "models", "correction": HALF},
    "ddpm-100": {**PLAIN, "sampler": "ddpm", "eta": 1.0},
}
KIDS = {
    "zz-plain": (0.0391, 0.0021),
    "cs-100": (0.0214, 0.0018),
    "cs-10": (0.0886, 0.004),
    "ddpm-100": (0.0232, 0.0019),
}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("run"))


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    """The root folder of a copy of the made-up run; tests change files in it."""
    return shutil.copytree(original, tmp_path / "tree")


@pytest.fixture
def params(tree: Path) -> Params:
    return load_params(tree / "params.yaml")


def write_tree(root: Path) -> Path:
    """Write every file of the stages before the report under `root`."""
    settings = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    settings["variants"] = VARIANTS
    settings["train"]["method"] = "compensated"
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    write_json(root / "data/prepared/index.json", _index(settings))
    write_json(root / "models/main/config.json", {"parameters": 1234567, "images_seen": 64000})
    write_json(root / "models/compensation/config.json", {"parameters": 89012})
    shutil.copytree(SHIPPED.parent / "curves", root / "curves")
    write_images(root)
    for name, variant in VARIANTS.items():
        write_json(root / f"metrics/{name}.json", metrics(name, variant))
    return root


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def metrics(name: str, variant: dict[str, Any]) -> dict[str, Any]:
    kid, spread = KIDS[name]
    scores = {"kid": kid, "kid_std": spread, "frechet": 900 * kid, "precision": 0.8 - 3 * kid, "recall": 0.55}
    provenance = {
        "variant": name, "reference": "train", "reference_sha256": "ab" * 32, "reference_images": 512,
        "samples_images": 512, "samples_sha256": "cd" * 32, "size": 16, "channels": 3,
        "extractor": "efficientnet-lite0",
        "extractor_weights_sha256": "ef" * 32, **variant, "seed": 1000000, "images_seen": 64000,
        "code": {"cspipe/evaluation": "0123456789abcdef"}, "device": "cpu", "kid_subsets": 50, "kid_subset_size": 200,
    }  # fmt: skip
    return {
        "efflite0": {**scores, "inception_score": 2.5},
        "memorisation": {"nearest_ratio": 0.98},
        "bracket": {"heldout_kid": 0.0007, "heldout_frechet": 3.4, "noise_kid": 0.71, "noise_frechet": 410.0},
        "provenance": [provenance],
    }


def write_images(root: Path) -> None:
    """Preview, film strip, grids and neighbour sheets of coloured noise."""
    _save(root / "data/prepared/preview.png", 0)
    _save(root / "models/main/progress.png", 1, columns=16)
    for seed, name in enumerate(VARIANTS, start=2):
        _save(root / f"samples/{name}/grid.png", seed)
        _save(root / f"neighbours/{name}.png", seed, columns=9)


def _save(path: Path, seed: int, columns: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 255, (8 * columns, 3, 16, 16), np.uint8)
    save_png(grid(images, columns, scale=4), path)


def _index(settings: dict[str, Any]) -> dict[str, Any]:
    data = settings["data"]
    return {
        "source": "avatars", "style": "pixel-art", "licence": "CC0 1.0", "crop": "none, rendered", "resize": "lanczos",
        "size": data["size"], "channels": data["channels"], "paired": "none",
        "splits": {
            "train": {"images": 4055, "sha256": "12" * 32, "shards": []},
            "test": {"images": 553, "sha256": "34" * 32, "shards": []},
        },
        "skipped": [{"name": "broken.png", "reason": "truncated"}], "skipped_count": 1,
    }  # fmt: skip
