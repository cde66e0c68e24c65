"""The promise of CONTRIBUTING.md: a source, sampler, correction, method, main net or net C is one new file.

The test puts a file into each folder of choices in a copy of the package and names it in a params file; nothing else of
the package changes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from tests.conftest import MODELS, ROOT, Tree, change
from tests.stages.conftest import stage, stages

LIKE = {
    "sources": "avatars",
    "methods": "scheduled_sampling",
    "backbones": "ddpm",
    "compensators": "resnet",
    "samplers": "ipndm",
    "corrections": "epsilon_scaling",
}
"""By folder, a file that is copied to `another`; what it does is what this one does."""


def use(folder: Path, small: Tree, name: dict[str, str]) -> None:
    """A params file with these choices."""
    params = change(small, {
        "data.limit": 40,
        "train.images": 16,
        "evaluate.images": 8,
        "evaluate.kid_subset_size": 4,
        "data.source": name["sources"],
        "train.method": name["methods"],
        "train.compensation.fade": 0.0,
        "model": {**MODELS["ddpm"], "channels": 32, "name": name["backbones"]},
        "compensation.net": name["compensators"],
        "variants.ddim-100.sampler": name["samplers"],
        "variants.ddim-100.correction": {"name": name["corrections"], "base": 1.2, "slope": 0.0},
    })  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def made(folder: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    """Run the stages up to the samples; what names the choices, and results, which are removed.

    Neither method nor correction uses C, so the first samples are drawn before there is one.
    """
    stages(folder, "prepare", "train", "sample ddim-100", "compensate", "sample cs-10")
    index, config, module = (
        json.loads((folder / file).read_text())
        for file in ("data/prepared/index.json", "models/main/config.json", "models/compensation/config.json")
    )
    named = {"source": index["source"], "model": config["model"]["name"], "net": module["compensation"]["net"]}
    files = [folder / f"samples/{variant}/samples.npy" for variant in ("ddim-100", "cs-10")]
    assert all(len(np.unique(np.load(file))) > 10 for file in files)
    files.append(folder / "curves/train-norm.tsv")
    results = {"splits": json.dumps(index["splits"]).encode()} | {str(file): file.read_bytes() for file in files}
    for name in ("data", "models", "samples", "curves", ".cspipe"):
        shutil.rmtree(folder / name)
    return named, results


def test_a_choice_is_one_new_file(small: Tree, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cspipe", tmp_path / "cspipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    use(tmp_path, small, LIKE)
    named, expected = made(tmp_path)
    assert named == {"source": "avatars", "model": "ddpm", "net": "resnet"}
    assert expected[str(tmp_path / "curves/train-norm.tsv")] == b"t\tnorm_ratio\terror\n", "no C was fit"
    use(tmp_path, small, dict.fromkeys(LIKE, "another"))
    assert "'avatars'" in stage(tmp_path, "prepare", check=False).stderr
    for folder, like in LIKE.items():
        shutil.copy(tmp_path / f"cspipe/{folder}/{like}.py", tmp_path / f"cspipe/{folder}/another.py")
    named, results = made(tmp_path)
    assert set(named.values()) == {"another"}
    assert results == expected
