"""The promise of CONTRIBUTING.md: a source, a sampler, a correction, a main net, a module's net are one new file each.

Each test puts a file into a copy of the package and names it in a params file; nothing else of the package changes.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from tests.conftest import MODELS, ROOT, Tree, change
from tests.stages.conftest import stage


def use(folder: Path, params: Tree) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def samples(folder: Path, params: Tree) -> NDArray[np.uint8]:
    """The samples of the variant ddim-100 of these parameters."""
    use(folder, params)
    stage(folder, "sample", "ddim-100")
    return np.load(folder / "samples/ddim-100/samples.npy")


@pytest.fixture(scope="module")
def trained(small: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, as shipped, beside what it has prepared and trained."""
    folder = tmp_path_factory.mktemp("trained") / "work"
    shutil.copytree(ROOT / "cspipe", folder / "cspipe", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    use(folder, change(small, {"train.method": "plain"}))
    stage(folder, "prepare")
    stage(folder, "train")
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A copy of that, to put a file into."""
    return shutil.copytree(trained, tmp_path / "work")


def put(work: Path, folder: str, like: str) -> None:
    """A file `another` into a folder of choices; what it does is what `like` does."""
    shutil.copy(work / f"cspipe/{folder}/{like}.py", work / f"cspipe/{folder}/another.py")


def test_source(work: Path, small: Tree) -> None:
    index = work / "data/prepared/index.json"
    before = json.loads(index.read_text())
    use(work, change(small, {"data.source": "another"}))
    assert "'avatars'" in stage(work, "prepare", check=False).stderr
    put(work, "sources", "avatars")
    stage(work, "prepare")
    after = json.loads(index.read_text())
    assert (after["source"], after["splits"]) == ("another", before["splits"])


@pytest.mark.slow
def test_sampler(work: Path, small: Tree) -> None:
    put(work, "samplers", "ipndm")
    ours, theirs = (samples(work, change(small, {"variants.ddim-100.sampler": name})) for name in ("another", "ipndm"))
    assert (ours == theirs).all()


def test_correction(work: Path, small: Tree) -> None:
    """It does not use C, so the variant waits for the main net alone, and models/compensation is not there."""
    put(work, "corrections", "epsilon_scaling")
    correction = {"name": "another", "base": 1.2, "slope": 0.0}
    corrected = samples(work, change(small, {"variants.ddim-100.correction": correction}))
    assert np.abs(corrected.astype(int) - samples(work, small)).max() > 3


def test_compensator(work: Path, small: Tree) -> None:
    put(work, "compensators", "resnet")
    use(work, change(small, {"compensation.net": "another"}))
    stage(work, "compensate")
    stage(work, "sample", "cs-10")
    assert np.load(work / "samples/cs-10/samples.npy").shape == (16, 3, 8, 8)


def test_training_method(work: Path, small: Tree) -> None:
    """It does not use C, so none is fit: nothing is said of its size."""
    put(work, "methods", "scheduled_sampling")
    use(work, change(small, {"train.method": "another", "train.compensation.fade": 0.0}))
    before = (work / "models/main/model.safetensors").read_bytes()
    stage(work, "train")
    assert (work / "models/main/model.safetensors").read_bytes() != before
    assert (work / "curves/train-norm.tsv").read_text().splitlines() == ["t\tnorm_ratio\terror"]


@pytest.mark.slow
def test_main_net(work: Path, small: Tree) -> None:
    put(work, "backbones", "ddpm")
    model = {**MODELS["ddpm"], "name": "another"}
    chosen = change(small, {"model": model, "train.method": "plain"})
    use(work, chosen)
    stage(work, "train")
    assert json.loads((work / "models/main/config.json").read_text())["model"] == model
    assert len(np.unique(samples(work, chosen))) > 10
