"""Lineage of what the real stages write: found from a copy, on a machine that has only the bucket."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cspipe.lineage.text import text
from cspipe.lineage.trace import trace
from cspipe.runtime.files import sha256_file
from tests.conftest import Tree
from tests.s3_server import S3
from tests.stages.conftest import commit, new_clone, run_in, stage


def test_samples_of_real_stages_lead_back_from_a_copy_to_commit_flow_run_and_main_model(
    small: Tree, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in s3.env.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("CSPIPE_S3", f"s3://{s3.new_bucket()}/team")
    monkeypatch.setenv("CSPIPE_FLOW_RUN", "brave-fox")
    root = new_clone(tmp_path / "clone", small)
    for name in ("prepare", "train"):
        stage(root, name)
    stage(root, "sample", "ddim-100")
    head = run_in(root, "git", "rev-parse", "HEAD").stdout.strip()
    (root / "README.md").write_text("later words\n")
    commit(root, "later")
    newest = run_in(root, "git", "rev-parse", "HEAD").stdout.strip()

    copy = tmp_path / "pictures.bin"
    shutil.copy(root / "samples/ddim-100/samples.npy", copy)
    found = trace(str(copy), tmp_path)
    assert found.record is not None
    facts = {key: found.record[key] for key in ("stage", "commit", "dirty", "flow_run")}
    assert facts == {"stage": "sample@ddim-100", "commit": head, "dirty": False, "flow_run": "brave-fox"}
    assert found.record["params_sha256"] == sha256_file(root / "params.yaml")
    main = next(origin for origin in found.made_from if origin.place == "models/main/model.safetensors")
    assert main.sha256 == sha256_file(root / "models/main/model.safetensors")
    assert main.record is not None
    assert (main.record["stage"], main.record["flow_run"]) == ("train", "brave-fox")

    in_clone = trace(str(root / "samples/ddim-100"), root)
    assert {commits.newest if commits else None for commits in in_clone.code.values()} == {newest}
    told = text(in_clone)
    assert "made by sample@ddim-100" in told
    assert "pictures" in told
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in told
