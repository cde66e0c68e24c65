"""A small clone with a history, a model that its code made, and samples, metrics and pictures to go with it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cspipe.runtime.files import sha256_file
from cspipe.runtime.models import save_model

SOURCES = {"cspipe/nets/unet.py": "one = 1\n", "cspipe/nets/blocks.py": "two = 2\n", "cspipe/train.py": "three = 3\n"}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    """Commit everything and give the full id."""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message, "--allow-empty")
    return git(folder, "rev-parse", "HEAD")


def ids(folder: Path, *paths: str) -> dict[str, str]:
    """What git itself calls the content of paths in HEAD, as `code_ids` shortens it."""
    return {path: git(folder, "rev-parse", f"HEAD:{path}")[:12] for path in paths}


@dataclass
class Clone:
    """The folder, and what was made in it."""

    root: Path
    commits: list[str]
    """Oldest first; the code that made the files is that of numbers 1 and 2."""

    @property
    def main(self) -> Path:
        return self.root / "models/main/model.safetensors"

    @property
    def module(self) -> Path:
        return self.root / "models/compensation/model.safetensors"

    @property
    def samples(self) -> Path:
        return self.root / "samples/cs-10/samples.npy"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics/cs-10.json"


def write_json(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n")


def save(folder: Path, key: str, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    torch.manual_seed(len(key))
    save_model(folder, {key: torch.nn.Linear(4, 4)}, config)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Four commits: other code, the code that made the files, the same with a README, other code again."""
    root = tmp_path / "clone"
    for name, text in {**SOURCES, ".gitignore": "/models\n/samples\n/data\n/.cspipe\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text if name != "cspipe/train.py" else "three = 4\n")
    git(root, "init", "-q", "-b", "main")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org"), ("commit.gpgsign", "false")):
        git(root, "config", key, value)
    commits = [commit(root, "before")]
    (root / "cspipe/train.py").write_text(SOURCES["cspipe/train.py"])
    commits.append(commit(root, "the code"))
    code = ids(root, "cspipe/nets", "cspipe/train.py")
    made = Clone(root, commits)
    make_files(made, code)
    (root / "README.md").write_text("words\n")
    commits.append(commit(root, "words"))
    (root / "cspipe/nets/unet.py").write_text("one = 10\n")
    commits.append(commit(root, "after"))
    return made


def make_files(clone: Clone, code: dict[str, str]) -> None:
    index = {"source": "avatars", "size": 8, "splits": {"train": {"images": 40, "sha256": "d" * 64}}}
    write_json(clone.root / "data/prepared/index.json", index)
    common = {"seed": 3, "data_sha256": "d" * 64, "code": code}
    save(clone.main.parent, "ema", {**common, "images_seen": 96, "train": {"method": "plain", "batch": 8}})
    main = sha256_file(clone.main)
    save(clone.module.parent, "module", {**common, "main_sha256": main})
    clone.samples.parent.mkdir(parents=True)
    np.save(clone.samples, np.zeros((6, 3, 8, 8), np.uint8))
    made = {
        "variant": "cs-10", "sampler": "ddim", "steps": 10, "seed": 7, "model_sha256": main,
        "module_sha256": sha256_file(clone.module), "code": {"train": code, "sample": code},
    }  # fmt: skip
    write_json(clone.samples.with_name("samples.json"), {**made, "images": 6})
    provenance = {**made, "samples_sha256": sha256_file(clone.samples), "reference_sha256": "d" * 64, "torch": "2.0"}
    write_json(clone.metrics, {"efflite0": {"kid": 0.1}, "provenance": [provenance]})
