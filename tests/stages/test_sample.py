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
from tests.stages.conftest import new_clone, stage, stages
from tests.stages.test_preemption import start, wait_until


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small: Tree) -> Path:
    """A clone with a net that knows little, and variants of it."""
    plain = small["variants"]["ddim-100"]
    variants = {"ddim-100": plain, "heun-5": {**plain, "sampler": "heun", "steps": 5}}
    variants |= {f"at-{images}": {**plain, "snapshot": images} for images in (20, 1000)}
    edm = {"diffusion.prediction": "edm", "diffusion.schedule": "karras", "train.snapshots": [20, 1000]}
    tree = change(small, {"variants": variants, "train.method": "plain", "sample.images": 128, **edm})
    folder = new_clone(tmp_path_factory.mktemp("trained") / "clone", tree)
    stages(folder, "prepare", "train")
    return folder


def read(folder: Path, variant: str = "ddim-100") -> dict[str, np.ndarray]:
    with (folder / f"samples/{variant}/exposure.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {column: np.array([float(row[column]) for row in rows]) for column in ("t", "sampled", "forward")}


def variances(images: np.ndarray) -> np.ndarray:
    """Of each image's own pixels, in [-1, 1]."""
    return (images / 127.5 - 1).reshape(len(images), -1).var(axis=1, ddof=1)


@pytest.mark.parametrize(("variant", "steps"), [("ddim-100", 10), ("heun-5", 5)])
def test_exposure_is_that_of_the_samples_and_the_training_pictures(trained: Path, variant: str, steps: int) -> None:
    told = stage(trained, "sample", variant).stderr
    assert f"exposure {variant}: " in told, "it reads the whole training set"
    table = read(trained, variant)
    assert table["t"].tolist() == list(range(10, -1, -10 // steps))
    assert table["sampled"][0] == pytest.approx(1, rel=0.05)  # of noise
    samples = np.load(trained / f"samples/{variant}/samples.npy")
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


def test_sampling_stops_at_once_and_keeps_its_finished_parts(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "clone", symlinks=True)
    shutil.rmtree(folder / "samples", ignore_errors=True)
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("images: 128\n", "images: 512\n"))

    def parts() -> list[Path]:
        return sorted((folder / ".cspipe/states/sample").glob("*/*.npz"))

    process = start(folder, "sample", "ddim-100")
    wait_until(lambda: len(parts()) > 2, process)
    process.terminate()
    _, told = process.communicate(timeout=400)
    assert process.returncode == End.PREEMPTED == os.EX_TEMPFAIL == 75
    assert "cspipe sample@ddim-100: stopped by SIGTERM" in told
    assert read_end(folder, "sample@ddim-100").end is End.PREEMPTED
    assert not (folder / "samples").exists() or not list((folder / "samples").rglob("*.npy"))
    kept = dict(np.load(parts()[0]))
    kept["images"][:] = 7  # a mark, to see that it is not made again
    np.savez(parts()[0], **kept)
    stage(folder, "sample", "ddim-100")
    samples = np.load(folder / "samples/ddim-100/samples.npy")
    assert (samples[:8] == 7).all()
    assert not (samples[8:] == 7).all()
