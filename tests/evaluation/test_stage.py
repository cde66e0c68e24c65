"""The stage from files to files, with the packaged extractor."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cspipe.data.shards import sha256_of
from cspipe.stages.evaluate import main
from tests.conftest import Tree, change
from tests.data.test_shards import write
from tests.evaluation.tiny import Images, blobs

MADE = {"sampler": "ddim", "steps": 100, "eta": 0.0, "correction": None, "seed": 5, "images": 40, "images_seen": 640}
MADE |= {"task": "generate", "families": None, "inputs_sha256": None, "device": "H200"}
TRAIN, TEST = blobs(60, 0), blobs(30, 1)


def split(folder: Path, name: str, images: Images) -> Tree:
    """Write a split as prepare does; its entry of the index."""
    shards = write(folder, name, images)
    return {"images": len(images), "sha256": sha256_of(shards), "shards": shards}


def write_samples(images: Images) -> None:
    folder = Path("samples/ddim-100")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "samples.npy", images)
    (folder / "samples.json").write_text(json.dumps({"variant": "ddim-100", **MADE, "code": {"cspipe/nets": "0123"}}))


@pytest.fixture
def workspace(demo: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, prepared data and samples, as the current one; the command line asks for ddim-100."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evaluate", "ddim-100"])
    sizes = {"images": 40, "kid_subsets": 5, "kid_subset_size": 40, "neighbours": 3}
    params = change(demo, {"compute.threads": 1} | {f"evaluate.{key}": value for key, value in sizes.items()})
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    prepared = tmp_path / "data/prepared"
    prepared.mkdir(parents=True)
    splits = {"train": split(prepared, "train", TRAIN), "test": split(prepared, "test", TEST)}
    index = {"source": "folder", "licence": None, "crop": "center", "resize": "area", "size": 16, "channels": 3}
    index |= {"paired": "none", "splits": splits, "skipped": [], "skipped_count": 0}
    (prepared / "index.json").write_text(json.dumps(index))
    write_samples(blobs(50, 2))
    return tmp_path


def outputs(workspace: Path) -> dict[str, bytes]:
    folders = [workspace / "metrics", workspace / "neighbours"]
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


def test_metrics_and_neighbours_are_written_and_the_same_again(workspace: Path) -> None:
    main()
    first = outputs(workspace)
    assert sorted(first) == ["ddim-100.json", "ddim-100.png"]
    metrics = json.loads(first["ddim-100.json"])
    assert list(metrics) == ["efflite0", "bracket", "provenance", "memorisation"]
    assert set(metrics["efflite0"]) == {"kid", "kid_std", "frechet", "precision", "recall", "inception_score"}
    assert set(metrics["bracket"]) == {"heldout_kid", "heldout_frechet", "noise_kid", "noise_frechet"}
    assert metrics["efflite0"]["kid"] < metrics["bracket"]["noise_kid"]
    assert metrics["memorisation"]["nearest_ratio"] == pytest.approx(1, abs=0.3)
    (provenance,) = metrics["provenance"]
    counts = {key: provenance[f"{key}_images"] for key in ("reference", "samples", "heldout")}
    assert counts == {"reference": 40, "samples": 40, "heldout": 30}
    assert provenance["kid_subset_size"] == 40
    kept = {key: value for key, value in MADE.items() if key not in ("images", "device")}
    assert {key: provenance[key] for key in kept} == kept
    assert (provenance["samples_device"], provenance["device"][:3]) == ("H200", "cpu")
    assert {"cspipe/nets", "evaluate"} <= set(provenance["code"])
    assert str(workspace) not in first["ddim-100.json"].decode()
    assert Image.open(workspace / "neighbours/ddim-100.png").size == (9 * 65 + 1, 3 * 65 + 1)
    main()
    assert outputs(workspace) == first


def test_exposure_bias_is_told_at_the_nearest_steps_of_the_walk(workspace: Path) -> None:
    rows = [(t, 1 - t / 200, 1 - t / 100) for t in (100, 80, 51, 20, 0)]
    lines = ["t\tsampled\tforward", *("\t".join(map(str, row)) for row in rows)]
    (workspace / "samples/ddim-100/exposure.tsv").write_text("\n".join(lines) + "\n")
    main()
    exposure = json.loads((workspace / "metrics/ddim-100.json").read_text())["exposure"]
    assert exposure == pytest.approx({"exposure_75": 0.4, "exposure_50": 0.255, "exposure_25": 0.1, "exposure_10": 0.1})


@pytest.mark.parametrize("file", ["samples.npy", "samples.json"])
def test_missing_samples_name_the_command(file: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "samples/ddim-100" / file).unlink()
    with pytest.raises(SystemExit, match="1"):
        main()
    assert f"samples/ddim-100/{file}: not there; `dvc repro sample@ddim-100` makes it" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("images", [blobs(50, 2, size=8), blobs(50, 2, channels=1), blobs(50, 2).astype(np.float32)])
def test_samples_of_another_kind_are_refused(images: Images, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(images)
    with pytest.raises(SystemExit, match="1"):
        main()
    message = capsys.readouterr().err
    assert "but data/prepared has uint8 images (3, 16, 16); run `dvc repro sample@ddim-100`" in message


@pytest.mark.parametrize("size", [0, 1000])
def test_half_a_file_is_refused(size: int, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = workspace / "samples/ddim-100/samples.npy"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "not readable" in capsys.readouterr().err
