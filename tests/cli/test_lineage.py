"""From a file back to what made it, wherever the file now lies; and the records that stages keep of what they made."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cspipe.cli.lineage import text, trace
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.git import git
from cspipe.runtime.models import save_model
from cspipe.runtime.records import FOLDER, find_here, keep_records
from cspipe.runtime.runlog import RunLog
from cspipe.runtime.storage import Bucket
from tests.conftest import ROOT
from tests.s3_server import S3
from tests.stages.conftest import commit, finished, new_repository, two_variants  # noqa: F401 (fixtures)

RUN = {
    "stage": "evaluate@cs-10", "started": "2026-03-01T04:05:06+00:00", "seconds": 4200.0, "commit": "c" * 40,
    "changed": ["params.yaml"], "params_sha256": "e" * 64, "flow_run": "brave-fox", "host": "box-7", "device": "GPU X",
    "python": "3.11.2", "torch": "2.9", "cuda": "12.8",
}  # fmt: skip
MAIN, MODULE = Path("models/main/model.safetensors"), Path("models/compensation/model.safetensors")
SAMPLES, METRICS = Path("samples/cs-10/samples.npy"), Path("metrics/cs-10.json")


def write_json(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))


@pytest.fixture
def bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("CSPIPE_S3", bucket.url)
    return bucket


@pytest.fixture
def made_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes a clone the current folder: models, samples and metrics of the commit returned, and one commit more."""
    monkeypatch.delenv("CSPIPE_S3", raising=False)
    monkeypatch.chdir(new_repository(tmp_path / "clone"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    Path(".gitignore").write_text("/models\n/samples\n/data\n/.cspipe\n")
    for content in ("before", "when they were made", "after"):
        write_json(Path("cspipe/train.py"), content)
        commit(Path(), content)
    made_at = git(Path(), "rev-parse", "HEAD~1")
    code = {"cspipe/train.py": git(Path(), "rev-parse", f"{made_at}:cspipe/train.py")[:12]}
    index = {"source": "avatars", "size": 8, "splits": {"train": {"images": 40, "sha256": "d" * 64}}}
    write_json(Path("data/prepared/index.json"), index)
    common = {"seed": 3, "data_sha256": "d" * 64, "code": code}
    for path, more in ((MAIN, {"images_seen": 96, "train": {"method": "plain"}}), (MODULE, {"main_sha256": ""})):
        path.parent.mkdir(parents=True)
        more = {key: value or sha256_file(MAIN) for key, value in more.items()}
        save_model(path.parent, {path.parent.name: torch.nn.Linear(4, 4)}, {**common, **more})
    SAMPLES.parent.mkdir(parents=True)
    np.save(SAMPLES, np.zeros((6, 3, 8, 8), np.uint8))
    hashes = {"model_sha256": sha256_file(MAIN), "module_sha256": sha256_file(MODULE)}
    facts = {"variant": "cs-10", "steps": 10, "images": 6, **hashes, "code": {"train": code, "sample": code}}
    write_json(SAMPLES.with_name("samples.json"), facts)
    scored = {**facts, "samples_sha256": sha256_file(SAMPLES), "reference_sha256": "d" * 64}
    scored |= {"samples_device": "H200", "device": "cpu"}
    write_json(METRICS, {"efflite0": {"kid": 0.1}, "provenance": [scored]})
    return made_at


def test_metrics_lead_back_to_samples_models_images_and_commit(made_at: str) -> None:
    metrics = trace(str(METRICS), Path())
    main, module, samples, reference = metrics.made_from
    assert (samples.kind, samples.place, samples.facts["images"]) == ("samples", str(SAMPLES), 6)
    assert (main.kind, main.place, main.facts["images_seen"]) == ("main model", str(MAIN), 96)
    assert (module.kind, module.made_from[1].sha256) == ("net C", sha256_file(MAIN))
    assert (reference.kind, reference.facts["source"], reference.facts["split"]) == (
        "reference images",
        "avatars",
        "train",
    )
    assert {*metrics.commits.values(), *main.commits.values(), *module.commits.values()} == {made_at}
    lines = text(metrics).splitlines()
    assert f"  code of train, sample: commit {made_at[:12]}" in lines
    assert sum("images seen 96" in line for line in lines) == 1  # no file is told twice
    assert json.loads(json.dumps(asdict(metrics)))["made_from"][0]["commits"] == {"train": made_at}


@pytest.mark.usefixtures("made_at")
def test_a_copy_is_found_by_its_hash_or_says_itself(tmp_path: Path) -> None:
    for path in (MAIN, SAMPLES):
        shutil.copy(path, tmp_path / path.name.replace(".", "_"))
    shutil.rmtree("models")
    shutil.rmtree("samples")
    model = trace(str(tmp_path / "model_safetensors"), tmp_path)
    assert (model.kind, model.facts["seed"], model.commits) == ("main model", 3, {"train": ""})
    samples = trace(str(tmp_path / "samples_npy"), Path())  # by the metrics that scored them
    assert samples.facts["device"] == "H200"
    assert [samples.facts["variant"], *(parent.kind for parent in samples.made_from)] == [
        "cs-10", "main model", "net C",
    ]  # fmt: skip
    assert "no record of it" in text(samples)


@pytest.mark.usefixtures("made_at")
def test_a_record_tells_machine_flow_run_and_parameters_and_the_first_stays(bucket: Bucket, tmp_path: Path) -> None:
    keep_records({**RUN, "stage": "sample@cs-10"})
    keep_records({**RUN, "stage": "sample@cs-10", "host": "another"})
    recorded = {json.loads(path.read_text())["file"] for path in FOLDER.glob("*.json")}
    assert recorded == {str(SAMPLES), str(SAMPLES.with_name("samples.json"))}
    record = find_here(sha256_file(SAMPLES), Path())
    assert record is not None
    assert (record["file"], record["host"]) == (str(SAMPLES), "box-7")
    copy = shutil.copy(SAMPLES, tmp_path / "copy")
    found = trace(str(copy), tmp_path)  # a machine that has only the bucket
    assert (found.record, found.facts) == (record, record["facts"])
    told = text(found)
    for words in ("2026-03-01 04:05", "1 h 10 min", "brave-fox", "c" * 12, "params.yaml", "e" * 12, "box-7", "GPU X"):
        assert words in told


@pytest.mark.usefixtures("made_at")
def test_an_object_in_s3_is_as_good_as_a_file(bucket: Bucket) -> None:
    sha256 = bucket.put_file(MAIN, "models/copy")
    found = trace(f"{bucket.url}/models/copy", Path())
    assert (found.sha256, found.facts) == (sha256, trace(str(MAIN), Path()).facts)
    for path in (SAMPLES, SAMPLES.with_name("samples.json")):
        bucket.put_file(path, f"elsewhere/{path.name}")
    assert trace(f"{bucket.url}/elsewhere/samples.npy", Path()).facts["variant"] == "cs-10"


@pytest.mark.usefixtures("made_at")
def test_other_bytes_have_not_the_origin_that_their_metadata_claim(bucket: Bucket, s3: S3) -> None:
    key = f"{bucket.prefix}/other"
    claim = {"sha256": sha256_file(MAIN)}
    s3.client().put_object(Bucket=bucket.bucket, Key=key, Body=METRICS.read_bytes(), Metadata=claim)
    assert trace(f"{bucket.url}/other", Path()).sha256 == sha256_file(METRICS)


@pytest.mark.usefixtures("made_at")
def test_records_that_name_each_other_end(tmp_path: Path) -> None:
    """Anybody who can write to the bucket makes some."""
    names = [sha256_file(METRICS), "a" * 64, "b" * 64]
    for name, other, third in zip(names, names[1:] + names[:1], names[2:] + names[:2], strict=True):
        facts = {"model_sha256": other, "module_sha256": third}
        write_json(FOLDER / f"{name}.json", {**RUN, "file": "x", "facts": facts})
    write_json(METRICS, {})
    (FOLDER / f"{names[0]}.json").rename(FOLDER / f"{sha256_file(METRICS)}.json")
    with pytest.raises(ValueError, match="100 files"):
        trace(str(METRICS), Path())


@pytest.mark.usefixtures("made_at")
def test_what_is_damaged_unknown_or_absent_is_one_line(tmp_path: Path, bucket: Bucket) -> None:
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "other")
    (tmp_path / "nonsense").write_bytes((50).to_bytes(8, "little") + b"{nonsense")
    (tmp_path / "cut").write_bytes(MAIN.read_bytes()[:-3])
    write_json(tmp_path / "samples.json", json.loads(SAMPLES.with_name("samples.json").read_text()))
    np.save(tmp_path / "of-others.npy", np.zeros((5, 3, 8, 8), np.uint8))
    targets = [str(tmp_path / name) for name in ("other", "nonsense", "cut", "of-others.npy", "absent")]
    for target in (*targets, f"{bucket.url}/absent", "what://x"):
        with pytest.raises(UserError) as caught:
            trace(target, Path())
        assert target in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("made_at")
def test_a_bucket_that_refuses_is_a_warning_and_nothing_is_lost(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    keep_records(RUN)
    assert find_here(sha256_file(METRICS), Path()) is not None
    assert trace(str(MAIN), Path()).facts["seed"] == 3
    shutil.rmtree(FOLDER)
    FOLDER.write_text("a file where the folder should be")
    keep_records(RUN)
    Path("dvc.yaml").write_text("stages: {}")
    keep_records(RUN)
    warnings = capsys.readouterr().err.splitlines()
    assert [line.startswith("warning: ") for line in warnings] == [True] * 4
    assert "a-wrong-secret" not in "".join(warnings)


def test_samples_of_real_stages_lead_back_to_commit_parameters_main_model_and_images(
    finished: Path,  # noqa: F811
) -> None:
    head, before = git(finished, "rev-parse", "HEAD", "HEAD~1").splitlines()  # the newest has the results alone
    found = trace(str(finished / "samples/ddim-100/samples.npy"), finished)
    main = found.made_from[0]
    assert [(each.record or {}).get("stage") for each in (found, main)] == ["sample@ddim-100", "train"]
    for each in (found, main):
        assert each.record is not None
        assert each.record["commit"] == before
        assert each.record["params_sha256"] == sha256_file(finished / "params.yaml")
    assert main.sha256 == sha256_file(finished / MAIN)
    assert set(found.commits.values()) == {head}
    images = main.made_from[0]
    assert (images.kind, images.facts["split"]) == ("images", "train")


def test_the_flow_run_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSPIPE_FLOW_RUN", "brave-fox")
    assert RunLog("train").facts()["flow_run"] == "brave-fox"
