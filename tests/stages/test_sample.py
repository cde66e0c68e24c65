"""Stage sample as a process: the exposure bias beside the samples."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cspipe.data.shards import open_split
from cspipe.runtime.device import device_name
from cspipe.runtime.ends import End, read_end
from cspipe.runtime.files import sha256_file
from tests.conftest import Tree, change
from tests.stages.conftest import new_clone, set_params, stage, stages, start, states, wait_until


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    """A clone with a net that knows little, and variants of it."""
    plain = small["variants"]["ddim-100"]
    variants = {"ddim-100": plain, **{f"at-{images}": {**plain, "snapshot": images} for images in (20, 1000)}}
    edm = {"diffusion.prediction": "edm", "diffusion.schedule": "karras", "train.snapshots": [20, 1000]}
    tree = change(small, {"variants": variants, "train.method": "plain", "sample.images": 128, **edm})
    folder = new_clone(tmp_path_factory.mktemp("trained") / "clone", tree)
    stages(folder, "prepare", "train")
    return folder


@pytest.fixture(scope="module")
def told(trained: Path) -> str:
    """What the stage said, which has run to its end in the trained clone."""
    return stage(trained, "sample", "ddim-100").stderr


def read(folder: Path) -> dict[str, np.ndarray]:
    with (folder / "samples/ddim-100/exposure.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {column: np.array([float(row[column]) for row in rows]) for column in ("t", "sampled", "forward")}


def variances(images: np.ndarray) -> np.ndarray:
    """Of each image's own pixels, in [-1, 1]."""
    return (images / 127.5 - 1).reshape(len(images), -1).var(axis=1, ddof=1)


def test_exposure_is_that_of_the_samples_and_the_training_pictures(trained: Path, told: str) -> None:
    assert "exposure ddim-100: " in told, "it reads the whole training set"
    table = read(trained)
    assert table["t"].tolist() == list(range(10, -1, -1))
    assert table["sampled"][0] == pytest.approx(1, rel=0.05)  # of noise
    samples = np.load(trained / "samples/ddim-100/samples.npy")
    assert table["sampled"][-1] == pytest.approx(variances(samples).mean(), abs=0.005)  # they are rounded to 8 bits
    train = open_split(trained / "data/prepared", "train")
    clean = variances(train.gather(np.arange(len(train)))).mean()
    sigma = (80 ** (1 / 7) + (10 - table["t"]) / 9 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    sigma[-1] = 0
    assert np.allclose(table["forward"], (clean + sigma**2) / (1 + sigma**2), rtol=1e-5)


def test_a_snapshot_samples_as_the_net_did_then(trained: Path) -> None:
    """After 20 images, of which batches of 8 make 24; one that training does not reach is that of its end."""
    stage(trained, "sample", "at-20")
    files = [trained / f"models/main/{folder}model.safetensors" for folder in ("", "snapshots/20/", "snapshots/1000/")]
    last, early, late = (
        {name: weight for name, weight in load_file(path).items() if not name.startswith("raw")} for path in files
    )
    assert late.keys() == last.keys() == early.keys()
    assert all(torch.equal(late[name], last[name]) for name in last)
    assert not all(torch.equal(early[name], last[name]) for name in last)
    facts = json.loads((trained / "samples/at-20/samples.json").read_text())
    assert (facts["images_seen"], facts["model_sha256"]) == (24, sha256_file(files[1]))
    assert facts["device"] == device_name(torch.device("cpu"))


@pytest.mark.usefixtures("told")
def test_sampling_stops_at_once_and_goes_on_from_its_finished_parts(trained: Path, tmp_path: Path) -> None:
    """To the samples of the run that was not stopped."""
    folder = shutil.copytree(trained, tmp_path / "clone", symlinks=True)
    shutil.rmtree(folder / "samples")
    set_params(folder, {"sample.images": 512})
    process = start(folder, "sample", "ddim-100")
    wait_until(lambda: len(states(folder, "sample")) > 2, process)
    process.terminate()
    _, told = process.communicate(timeout=400)
    assert process.returncode == End.PREEMPTED == os.EX_TEMPFAIL == 75
    assert "cspipe sample@ddim-100: stopped by SIGTERM" in told
    assert read_end(folder, "sample@ddim-100").end is End.PREEMPTED
    assert not (folder / "samples").exists() or not list((folder / "samples").rglob("*.npy"))
    first = min(states(folder, "sample"))
    kept = dict(np.load(first))
    kept["images"][:] = 7  # a mark, to see that it is not made again
    np.savez(first, **kept)
    stage(folder, "sample", "ddim-100")
    samples, undisturbed = (np.load(place / "samples/ddim-100/samples.npy") for place in (folder, trained))
    assert (samples[:8] == 7).all()
    np.testing.assert_array_equal(samples[8:128], undisturbed[8:])
