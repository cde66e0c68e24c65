"""From a folder of images to a finished run on workers: images of the worker's own clone, or brought by DVC and S3."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import change
from tests.flows.machines import Machines, cloned, machines
from tests.s3_server import S3
from tests.stages.conftest import commit, run_in

pytestmark = pytest.mark.slow
FACES = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, s3: S3) -> Iterator[Machines]:
    """Two machines with a worker each; the preset of train-ffhq is the demo of seconds with FFHQ as its source."""
    with machines(tmp_path_factory.mktemp("own"), s3) as made:
        work = made.origin.parent / "work"
        demo = yaml.safe_load((work / "cspipe/config/presets/demo.yaml").read_text())
        ffhq = change(demo, {"data.source": "ffhq256", "data.path": "data/raw/ffhq", "data.limit": FACES})
        (work / "cspipe/config/presets/ffhq256.yaml").write_text(yaml.safe_dump(ffhq, sort_keys=False))
        commit(work, "a small preset for FFHQ")
        run_in(work, "git", "push", "-q", str(made.origin), "main")
        for clone in (made.driver, made.gpu):
            run_in(clone, "git", "pull", "-q")
        made.type("prefect", "--no-prompt", "deploy", "-n", "train-ffhq")
        made.worker("cpu", made.driver, "cpu")
        made.worker("gpu", made.gpu, "gpu")
        yield made


def write_ffhq(folder: Path) -> None:
    """A miniature of FFHQ as it is published: images1024x1024/00000/00000.png ... and the list of their md5s."""
    rng, listed = np.random.Generator(np.random.PCG64(0)), {}
    for number in range(FACES):
        name = f"images1024x1024/{number // 10 * 10:05}/{number:05}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / name)
        md5 = hashlib.md5((folder / name).read_bytes()).hexdigest()
        listed[str(number)] = {"image": {"file_path": name, "file_md5": md5}}
    (folder / "ffhq-dataset-v2.json").write_text(json.dumps(listed))


def run(place: Machines, clone: Path, *arguments: str) -> str:
    """Type `prefect deployment run ...` in a clone; how the run ended."""
    return str(place.ended(place.queue(*arguments, clone=clone), 600).state.message)


def test_without_images_the_message_leads_to_a_run_from_those_of_the_workers_clone(place: Machines) -> None:
    missing = run(place, place.driver, "train-ffhq")
    assert "data.path data/raw/ffhq is not in the clone of the cpu worker" in missing
    assert "`dvc add data/raw/ffhq`" in missing
    write_ffhq(place.driver / "data/raw/ffhq")
    assert "6 ran" in run(place, place.driver, "train-ffhq"), place.logs()


def test_images_that_dvc_tracks_reach_a_machine_that_never_had_them(place: Machines) -> None:
    """As data/raw/README.md says: dvc add, commit, dvc push, git push, and run."""
    mine = cloned(place.origin, place.origin.parent / "mine")
    write_ffhq(mine / "data/raw/faces")
    place.type("dvc", "remote", "add", "--local", "-d", "s3", f"s3://{place.bucket}/tests/dvc", clone=mine)
    place.type("dvc", "add", "data/raw/faces", clone=mine)
    commit(mine, "faces")
    run_in(mine, "git", "push", "-q")
    overrides = {"data.source": "folder", "data.path": "data/raw/faces", "data.limit": None}
    asked = ("train-demo", "-p", f"overrides={json.dumps(overrides)}", "-p", "revision=main")
    assert "`dvc push` in a clone that has them" in run(place, mine, *asked)
    place.type("dvc", "push", clone=mine)
    assert "6 ran" in run(place, mine, *asked), place.logs()
    assert not (place.driver / "data/raw/faces").exists()
