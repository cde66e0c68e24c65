"""Records of who made a file, kept by a stage at its end."""

from __future__ import annotations

import json
import os

import pytest

from cspipe.lineage.records import FOLDER, find_here, keep_records
from cspipe.lineage.stage_files import stage_files
from cspipe.runtime.errors import UserError
from cspipe.runtime.files import sha256_file
from cspipe.runtime.storage import Bucket
from tests.conftest import ROOT
from tests.lineage.conftest import Clone
from tests.s3_server import S3

FACTS = {"stage": "evaluate@cs-10", "commit": "c" * 40, "dirty": False, "host": "box", "flow_run": None}


@pytest.fixture
def here(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The clone with the project's pipeline, as the current folder, and no bucket."""
    for name in ("dvc.yaml", "params.yaml"):
        (clone.root / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(clone.root)
    monkeypatch.delenv("CSPIPE_S3", raising=False)
    return clone


def test_files_of_every_stage_are_those_that_dvc_knows() -> None:
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        stages = [stage for stage in repo.index.stages if stage.cmd]
        assert len(stages) >= 8
        for stage in stages:
            found = stage_files(ROOT, stage.name)
            deps = {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}
            assert set(map(str, found.reads)) == deps
            assert {out.def_path for out in stage.outs if not out.is_plot} == set(map(str, found.writes))


def test_record_names_the_file_its_maker_and_its_inputs(here: Clone) -> None:
    keep_records(FACTS)
    record = find_here(sha256_file(here.metrics), here.root)
    assert record is not None
    assert {key: record[key] for key in FACTS} == FACTS
    assert record["file"] == "metrics/cs-10.json"
    assert record["inputs"] == {
        "data/prepared/index.json": sha256_file(here.root / "data/prepared/index.json"),
        "samples/cs-10/samples.json": sha256_file(here.samples.with_name("samples.json")),
        "samples/cs-10/samples.npy": sha256_file(here.samples),
    }


def test_only_the_files_of_the_stage_are_recorded(here: Clone) -> None:
    keep_records({**FACTS, "stage": "train"})
    files = {json.loads(path.read_text())["file"] for path in (here.root / FOLDER).glob("*.json")}
    assert files == {"models/main/model.safetensors", "models/main/config.json"}
    keep_records({**FACTS, "stage": "prepare"})
    assert len(list((here.root / FOLDER).glob("*.json"))) == 2


def test_first_maker_of_the_same_bytes_stays_their_origin(here: Clone) -> None:
    keep_records(FACTS)
    keep_records({**FACTS, "host": "another"})
    record = find_here(sha256_file(here.metrics), here.root)
    assert record is not None
    assert record["host"] == "box"


def test_records_go_to_s3_and_the_first_stays_there_too(here: Clone, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("CSPIPE_S3", f"s3://{s3.new_bucket()}/team")
    keep_records(FACTS)
    for path in (here.root / FOLDER).glob("*.json"):
        path.unlink()
    keep_records({**FACTS, "host": "another"})
    found = Bucket.from_url(os.environ["CSPIPE_S3"]).get_json(f"lineage/{sha256_file(here.metrics)}.json")
    assert found is not None
    assert found[0]["host"] == "box"


def test_bucket_that_refuses_is_a_warning_and_the_record_here_is_kept(
    here: Clone, s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in s3.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    monkeypatch.setenv("CSPIPE_S3", f"s3://{s3.new_bucket()}/team")
    keep_records(FACTS)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: evaluate@cs-10: no complete record of its lineage: ")
    assert warning.count("\n") == 1
    assert "a-wrong-secret" not in warning
    assert find_here(sha256_file(here.metrics), here.root) is not None


def test_full_disk_or_unreadable_pipeline_is_a_warning_too(here: Clone, capsys: pytest.CaptureFixture[str]) -> None:
    (here.root / ".cspipe").write_text("a file where the folder should be")
    keep_records(FACTS)
    assert "warning: evaluate@cs-10" in capsys.readouterr().err
    (here.root / "dvc.yaml").write_text("stages: [")
    keep_records(FACTS)
    assert "dvc.yaml" in capsys.readouterr().err


def test_stage_of_an_unknown_form_is_an_error_not_a_guess(here: Clone) -> None:
    (here.root / "dvc.yaml").write_text("stages:\n  sample:\n    matrix: {variant: [a, b]}\n    cmd: x\n")
    with pytest.raises(UserError, match="files of stage sample@a cannot be read"):
        stage_files(here.root, "sample@a")
    with pytest.raises(UserError, match="files of stage nope"):
        stage_files(here.root, "nope")
