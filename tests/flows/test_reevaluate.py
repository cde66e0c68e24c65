"""Nights of re-evaluation of a tiny registered model: real S3, git, DVC and Prefect server, and real drift."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
import yaml
from prefect.client.schemas.objects import State
from safetensors import safe_open
from safetensors.torch import save_file

from cspipe.runtime.models import DIGEST, _digest
from cspipe.runtime.storage import Bucket
from flows.reevaluate import UNKNOWN, reevaluate
from tests.conftest import Tree, change
from tests.s3_server import S3
from tests.stages.conftest import commit, new_clone, run_in

pytestmark = pytest.mark.slow
PERTURBED = """
import sys
if any("cspipe.stages" in word for word in sys.orig_argv):
    import torch.nn.functional as functional
    exact = functional.silu
    functional.silu = lambda x, inplace=False: exact(x) * 1.02
"""
"""A package whose output changed without a new version."""


@dataclass
class Project:
    """A clone, and the bucket that holds its results."""

    clone: Path
    bucket: Bucket

    def push(self) -> None:
        run_in(self.clone, "dvc", "push", "--quiet", "--run-cache", "--remote", "s3")

    def register(self) -> None:
        """Version 1.0.0 of both models is the newest commit, whatever it was."""
        for name in ("main", "compensation"):
            run_in(self.clone, "git", "tag", "-f", "-a", f"{name}@v1.0.0", "-m", "registered")

    def night(self, time: str = "2026-07-31", repeats: int = 0) -> State[object]:
        """A run at a time, which decides its fresh seeds."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flows.reevaluate.now", lambda: datetime.fromisoformat(time).replace(tzinfo=UTC))
            return reevaluate(repeats, return_state=True)

    def records(self) -> list[Tree]:
        """What runs left in S3, the oldest first."""
        found = [self.bucket.get_json(key) for key in self.bucket.list("reevaluation/")]
        return [dict(record[0]) for record in found if record is not None]

    def variants(self) -> list[Tree]:
        return [record["revisions"][0]["variants"][0] for record in self.records()]

    def drift(self) -> str:
        state = self.night()
        assert (state.name, state.is_failed()) == ("Drifted", True)
        message = state.message or ""
        assert "\n" not in message
        return message


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, small: Tree, s3: S3) -> Project:
    """A finished clone, its results in S3, both of its models tagged. dvc.lock also has a variant of an older model."""
    older = change(small, {"variants": {"old": small["variants"]["ddim-100"]}})
    tree = change(small, {"variants": {"cs-10": small["variants"]["cs-10"]}, "train.images": 96})
    clone = new_clone(tmp_path_factory.mktemp("registered") / "clone", older)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.env.items():
            patch.setenv(name, value)
        project = Project(clone, Bucket(s3.new_bucket(), "team"))
        run_in(clone, "dvc", "repro", "--quiet", "evaluate@old")
        (clone / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        run_in(clone, "dvc", "repro", "--quiet", "evaluate@cs-10")
        commit(clone, "results")
        project.register()
        run_in(clone, "dvc", "remote", "add", "--local", "s3", f"{project.bucket.url}/dvc")
        project.push()
    return project


@pytest.fixture
def project(
    registered: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3, prefect: None
) -> Iterator[Project]:
    """A copy of the registered clone and of its bucket, to do things to. The copy has no cache: S3 must do."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    bucket, client = Bucket(s3.new_bucket(), "team"), s3.client()
    for key in registered.bucket.list():
        source = {"Bucket": registered.bucket.bucket, "Key": f"team/{key}"}
        client.copy_object(Bucket=bucket.bucket, Key=f"team/{key}", CopySource=source)
    clone = tmp_path / "clone"
    run_in(tmp_path, "cp", "-a", str(registered.clone), str(clone))
    run_in(clone, "dvc", "remote", "modify", "--local", "s3", "url", f"{bucket.url}/dvc")
    monkeypatch.setenv("CSPIPE_HOME", str(clone))
    monkeypatch.setenv("CSPIPE_S3", bucket.url)
    yield Project(clone, bucket)
    assert run_in(clone, "git", "worktree", "list").stdout.count("\n") == 1


def md5_of(project: Project, folder: str, file: str) -> str:
    stages = yaml.safe_load((project.clone / "dvc.lock").read_text())["stages"].values()
    md5 = next(out["md5"] for stage in stages for out in stage["outs"] if out["path"] == folder)
    listed = json.loads((project.clone / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).read_text())
    return str(next(entry["md5"] for entry in listed if entry["relpath"] == file))


def test_calm_nights_learn_a_band_and_change_nothing(project: Project) -> None:
    before, stored = run_in(project.clone, "git", "for-each-ref").stdout, set(project.bucket.list("dvc/"))
    first = project.night("2026-07-30", repeats=3)
    assert first.is_completed(), first.message
    assert (first.message or "").startswith("compensation v1.0.0 + main v1.0.0: the same samples and scores")
    assert (first.message or "").endswith("inconclusive (too few repeats yet)")
    second = project.night("2026-07-30T12:00", repeats=3)  # the same day once more: another file, other seeds
    assert second.is_completed(), second.message
    one, two = project.variants()
    assert [len(found["repeats"]) for found in (one, two)] == [3, 1]
    assert two["bands"]["kid"]["repeats"] == 4
    assert two["repeats"][0]["seed"] not in {repeat["seed"] for repeat in one["repeats"]}
    assert two["then"] == two["again"] == one["then"] != two["now"] != one["now"]
    assert (two["images"], two["changed"], two["differs"]) == (16, 0, {})
    assert two["verdict"] != "regressed"
    assert run_in(project.clone, "git", "for-each-ref").stdout == before
    assert run_in(project.clone, "git", "status", "--porcelain").stdout == ""
    assert set(project.bucket.list("dvc/")) == stored


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="there is no other to be had")
def test_a_night_on_another_processor_is_calm(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of another instruction set change last digits, and so scores."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    night = project.night()
    assert night.is_completed(), night.message
    assert "nearly the same samples, on another device" in (night.message or "")
    [found] = project.variants()
    for key in ("samples_device", "device"):
        assert re.fullmatch(r"cpu \(.*\) then, cpu \(.*, DEFAULT\) now", found["differs"].pop(key))
    assert found["differs"] == {}
    assert found["then"] != found["again"]
    recorded = json.loads((project.clone / "metrics/cs-10.json").read_text())["provenance"][0]
    assert recorded["samples_device"] == recorded["device"]


def test_a_changed_weight_is_found(project: Project) -> None:
    """A weight of the EMA net is changed, and everything is committed, pushed and tagged as if it belonged there."""
    file = project.clone / "models/main/model.safetensors"
    with safe_open(file, framework="pt") as opened:
        tensors, metadata = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    name = next(name for name in tensors if name.startswith("ema.") and name.endswith("weight"))
    tensors[name].view(-1)[0] += 0.5
    config = json.loads(metadata["cspipe"])
    digest = _digest({key: value for key, value in config.items() if key != DIGEST}, sorted(tensors.items()))
    file.unlink()
    save_file(tensors, file, {"cspipe": json.dumps({**config, DIGEST: digest})})
    run_in(project.clone, "dvc", "commit", "--force", "train")
    commit(project.clone, "a weight")
    project.register()
    project.push()
    message = project.drift()
    assert message.startswith("compensation v1.0.0 + main v1.0.0, cs-10: same seeds give other samples: ")
    assert re.search(r"\w+ of the same seeds [\d.]+ then, [\d.]+ now", message)
    assert re.search(r"differs: model_sha256 \w+ then, \w+ now", message)
    assert project.records()[0]["drifted"]
    assert project.variants()[0]["repeats"] == []  # no band learns from it


def test_a_changed_package_is_found(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PERTURBED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    message = project.drift()
    assert "same seeds give other samples" in message
    assert message.endswith(f"differs: {UNKNOWN}")


def test_a_changed_shard_in_s3_is_found(project: Project, s3: S3) -> None:
    md5 = md5_of(project, "data/prepared", "train-00000.npy")
    key = f"team/dvc/files/md5/{md5[:2]}/{md5[2:]}"
    body = bytearray(s3.client().get_object(Bucket=project.bucket.bucket, Key=key)["Body"].read())
    body[-1] ^= 1
    s3.client().put_object(Bucket=project.bucket.bucket, Key=key, Body=bytes(body))
    message = project.drift()
    assert "data/prepared/train-00000.npy was changed in s3://" in message
    assert f"md5 {md5} then, " in message


def test_a_missing_model_is_found(project: Project) -> None:
    md5 = md5_of(project, "models/compensation", "model.safetensors")
    project.bucket.delete(f"dvc/files/md5/{md5[:2]}/{md5[2:]}")
    missing = f"models/compensation/model.safetensors is missing in {project.bucket.url}/dvc: md5 {md5} then"
    assert missing in project.drift()
    assert missing in project.records()[0]["revisions"][0]["problem"]
