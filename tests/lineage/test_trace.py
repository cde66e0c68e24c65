"""From a file back to what made it, wherever the file now lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import numpy as np
import pytest
from safetensors.numpy import save_file

from cspipe.lineage.text import as_json, text
from cspipe.lineage.trace import trace
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.storage import Bucket
from tests.lineage.conftest import Clone, git, write_json
from tests.s3_server import S3

RECORD = {
    "file": "models/main/model.safetensors", "stage": "train", "started": "2026-03-01T04:05:06+00:00",
    "seconds": 4200.0, "commit": "c" * 40, "dirty": True, "changed": ["params.yaml"], "params_sha256": "e" * 64,
    "flow_run": "brave-fox", "host": "box-7", "device": "GPU X", "python": "3.11.2", "torch": "2.9", "cuda": "12.8",
    "inputs": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSPIPE_S3", raising=False)


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket that CSPIPE_S3 names."""
    for key, value in s3.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("CSPIPE_S3", f"s3://{s3.new_bucket()}/team")
    return Bucket.from_url(os.environ["CSPIPE_S3"])


def test_metrics_lead_back_to_samples_models_and_pictures(clone: Clone) -> None:
    metrics = trace(str(clone.metrics), clone.root)
    kinds = [origin.kind for origin in metrics.made_from]
    assert kinds == ["main model", "compensation module", "samples", "reference pictures"]
    samples = metrics.made_from[2]
    assert (samples.place, samples.facts["seed"]) == (str(clone.samples), 7)
    module = samples.made_from[1]
    assert (module.kind, module.place) == ("compensation module", str(clone.module))
    main = next(origin for origin in module.made_from if origin.kind == "main model")
    assert main.facts["images_seen"] == 96
    pictures = main.made_from[0]
    assert (pictures.kind, pictures.facts["source"], pictures.facts["split"]) == ("pictures", "avatars", "train")


def test_newest_commit_with_the_code_is_named_among_those_that_have_it(clone: Clone) -> None:
    found = trace(str(clone.main), clone.root).code["train"]
    assert found is not None
    assert (found.newest, found.count, found.differing) == (clone.commits[2], 2, ())


def test_text_is_short_and_tells_the_commit(clone: Clone) -> None:
    lines = text(trace(str(clone.metrics), clone.root)).splitlines()
    assert lines[0] == f"metrics {clone.metrics} (sha256 {sha256_file(clone.metrics)[:12]})"
    assert lines[1] == "  variant cs-10, sampler ddim, steps 10, seed 7, torch 2.0"
    assert lines[2] == f"  code of train, sample: commit {clone.commits[2][:12]}, the newest of 2 with this code"
    assert max(map(len, lines)) < 200


def test_renamed_copy_far_from_the_clone_still_tells(clone: Clone, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "best"
    copy.parent.mkdir()
    shutil.copy(clone.main, copy)
    shutil.rmtree(clone.main.parent)
    origin = trace(str(copy), clone.root)
    assert (origin.kind, origin.facts["seed"]) == ("main model", 3)
    without = trace(str(copy), copy.parent)
    assert without.code == {"train": None}
    assert "code of train: no history of the project here to find it in" in text(without)


def test_record_adds_machine_flow_run_and_parameters(clone: Clone) -> None:
    write_json(clone.root / f".cspipe/lineage/{sha256_file(clone.main)}.json", RECORD)
    told = text(trace(str(clone.main), clone.root))
    assert "made by train, 2026-03-01 04:05 UTC in 1 h 10 min, flow run brave-fox" in told
    assert "at commit cccccccccccc with changes to params.yaml, params.yaml eeeeeeeeeeee" in told
    assert "on box-7: GPU X, Python 3.11.2, torch 2.9, CUDA 12.8" in told


def test_folder_of_a_model_stands_for_the_model(clone: Clone) -> None:
    assert trace(str(clone.main.parent), clone.root).sha256 == sha256_file(clone.main)


def test_samples_alone_are_found_by_the_metrics_that_scored_them(clone: Clone, tmp_path: Path) -> None:
    copy = tmp_path / "pictures"
    shutil.copy(clone.samples, copy)
    origin = trace(str(copy), clone.root)
    assert origin.facts["variant"] == "cs-10"
    assert "samples" not in [parent.kind for parent in origin.made_from]


def test_silent_file_is_found_by_its_record_and_leads_on_by_its_inputs(clone: Clone, tmp_path: Path) -> None:
    copy = tmp_path / "pictures.npy"
    np.save(copy, np.ones((2, 3, 8, 8), np.uint8))
    index = clone.root / "data/prepared/index.json"
    inputs = {"models/main/model.safetensors": sha256_file(clone.main), "data/prepared/index.json": sha256_file(index)}
    record = {**RECORD, "file": "samples/x/samples.npy", "stage": "sample@x", "inputs": inputs}
    write_json(clone.root / f".cspipe/lineage/{sha256_file(copy)}.json", record)
    origin = trace(str(copy), clone.root)
    assert origin.record == record
    assert [(parent.kind, parent.facts.get("seed")) for parent in origin.made_from] == [
        ("main model", 3), ("pictures", None),
    ]  # fmt: skip
    assert origin.made_from[1].facts["source"] == "avatars"


def test_record_of_another_machine_is_found_in_s3(clone: Clone, tmp_path: Path, bucket: Bucket) -> None:
    bucket.put_json(f"lineage/{sha256_file(clone.main)}.json", RECORD)
    copy = tmp_path / "copy.bin"
    shutil.copy(clone.main, copy)
    assert trace(str(copy), tmp_path).record == RECORD


def test_object_in_s3_is_read_by_the_part(clone: Clone, bucket: Bucket, s3: S3) -> None:
    big = clone.root / "big.safetensors"
    config = {"seed": 5, "code": {}, "data_sha256": "d" * 64}
    save_file({"ema.w": np.zeros(2**22, np.float32)}, big, metadata={"cspipe": json.dumps(config)})
    sha256 = bucket.put_file(big, "models/big")
    bucket.put_json(f"lineage/{sha256}.json", RECORD)
    sizes: list[int] = []

    def count(parsed: dict, **_: object) -> None:
        sizes.append(int(parsed["ResponseMetadata"]["HTTPHeaders"]["content-length"]))

    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("after-call.s3.GetObject", count)
    origin = trace(f"{bucket.url}/models/big", clone.root)
    boto3.setup_default_session()
    assert (origin.facts["seed"], origin.sha256, origin.record) == (5, sha256, RECORD)
    assert 0 < sum(sizes) < 10_000
    s3.client().put_object(Bucket=bucket.bucket, Key="plain", Body=big.read_bytes())
    assert trace(f"s3://{bucket.bucket}/plain", clone.root).sha256 == sha256


def test_dvc_cache_and_remote_are_read_too(clone: Clone, bucket: Bucket, s3: S3) -> None:
    for command in (
        ["init", "-q"],
        ["add", "-q", "models/main", "samples/cs-10"],
        ["remote", "add", "-q", "-d", "shared", f"{bucket.url}/dvc"],
        ["push", "-q"],
    ):
        run = [str(Path(sys.executable).with_name("dvc")), *command]
        git(clone.root, "config", "core.excludesFile", "/dev/null")
        (clone.root / ".gitignore").write_text("")
        done = subprocess.run(run, cwd=clone.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    cache = clone.root / ".dvc/cache/files/md5"
    folders = {trace(str(path), clone.root).kind for path in cache.glob("*/*.dir")}
    assert folders == {"main model", "samples"}
    for path in cache.glob("*/*.dir"):
        remote = trace(f"{bucket.url}/dvc/files/md5/{path.relative_to(cache)}", clone.root)
        assert (remote.kind, remote.facts) == (trace(str(path), clone.root).kind, trace(str(path), clone.root).facts)
    model = next(path for path in cache.glob("*/*") if path.read_bytes() == clone.main.read_bytes())
    assert trace(str(model), clone.root).facts["seed"] == 3


def test_unknown_file_is_told_with_the_places_looked_at(clone: Clone, tmp_path: Path, bucket: Bucket) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, other)
    with pytest.raises(UserError) as caught:
        trace(str(other), clone.root)
    message = str(caught.value)
    assert f"nothing is known of it (sha256 {sha256_file(other)})" in message
    assert all(place in message for place in ("its metadata", ".cspipe/lineage", f"{bucket.url}/lineage"))
    assert "\n" not in message


def test_bucket_that_does_not_answer_does_not_hide_what_the_file_tells(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSPIPE_S3", "s3://nowhere/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert trace(str(clone.main), clone.root).facts["seed"] == 3
    with pytest.raises(UserError, match="unreachable"):
        trace("s3://nowhere/x", clone.root)


def cut(path: Path, by: int) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - by)


def test_damaged_and_foreign_files_are_one_clear_line(clone: Clone, tmp_path: Path) -> None:
    cut(clone.main, 3)
    cut(clone.samples, 3)
    files = {
        clone.main: "damaged: .* bytes, but its header tells",
        clone.samples: "damaged: .* bytes, but its header tells",
        tmp_path / "header": "damaged safetensors file",
        tmp_path / "text": "no safetensors model, .npy array or metrics JSON",
        tmp_path / "empty": "no safetensors model, .npy array or metrics JSON",
        tmp_path / "npy": "damaged .npy file",
        tmp_path / "broken.json": "damaged JSON",
        tmp_path / "other.json": "JSON, but no metrics",
        tmp_path / "absent": "no such file",
    }
    (tmp_path / "header").write_bytes((50).to_bytes(8, "little") + b"{nonsense")
    (tmp_path / "text").write_text("words")
    (tmp_path / "empty").write_text("")
    (tmp_path / "npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr'")
    (tmp_path / "broken.json").write_text('{"a": ')
    (tmp_path / "other.json").write_text('{"a": 1}')
    for path, message in files.items():
        with pytest.raises(UserError, match=message) as caught:
            trace(str(path), clone.root)
        assert "\n" not in str(caught.value)


def test_samples_json_of_other_samples_is_not_believed(clone: Clone) -> None:
    np.save(clone.samples, np.zeros((5, 3, 8, 8), np.uint8))
    with pytest.raises(UserError, match=r"tells of 6 images, but .* has 5"):
        trace(str(clone.samples), clone.root)


def test_code_that_no_commit_has_names_the_nearest(clone: Clone) -> None:
    config = json.loads((clone.main.with_name("config.json")).read_text())
    config["code"]["cspipe/train.py"] = "0" * 12
    write_json(clone.root / "config.json", config)
    told = text(trace(str(clone.root / "config.json"), clone.root))
    assert f"no commit here has it; nearest is {clone.commits[2][:12]}, other in cspipe/train.py" in told


def test_everything_can_be_written_as_json(clone: Clone) -> None:
    tree = json.loads(json.dumps(as_json(trace(str(clone.metrics), clone.root))))
    assert tree["made_from"][0]["code"]["train"]["newest"] == clone.commits[2]
