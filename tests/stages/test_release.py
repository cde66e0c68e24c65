"""A registered model, fetched elsewhere by its name and version as docs/models.md says."""

from pathlib import Path

import pytest

from cspipe.runtime.files import sha256_file
from tests.conftest import ROOT
from tests.s3_server import S3
from tests.stages.conftest import run_in
from tests.test_docs import blocks, commands


@pytest.mark.slow
def test_it_has_the_same_bytes(clone: Path, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    origin, bucket, elsewhere = tmp_path / "origin.git", f"s3://{s3.new_bucket()}/team/dvc", tmp_path / "elsewhere"
    run_in(tmp_path, "git", "init", "-q", "--bare", "-b", "main", str(origin))
    run_in(clone, "git", "remote", "add", "origin", str(origin))
    run_in(clone, "dvc", "remote", "add", "--local", "-d", "s3", bucket)
    for line in ("dvc push", "git push origin main", "gto register main --version v1.0.0", "git push origin --tags"):
        run_in(clone, *line.split())
    [get] = [
        words
        for _, block in blocks((ROOT / "docs/models.md").read_text())
        for words in commands(block)
        if words[:2] == ["dvc", "artifacts"]
    ]
    here = {"REPO": str(origin), "url=s3://bucket/prefix/dvc": f"url={bucket}"}
    elsewhere.mkdir()
    run_in(elsewhere, *(here.get(word, word) for word in get))
    released, fetched = (
        {path.relative_to(folder): sha256_file(path) for path in folder.rglob("*") if path.is_file()}
        for folder in (clone / "models/main", elsewhere / "main")
    )
    assert released
    assert fetched == released
