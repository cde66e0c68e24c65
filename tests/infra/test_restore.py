"""The disaster drill: the clone, its cache and the server are gone; git and the bucket bring the results back.

Takes two minutes or more on two cores: a whole small pipeline runs first.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cspipe.runtime.files import sha256_file
from tests.conftest import Tree, change
from tests.infra.conftest import INFRA
from tests.s3_server import S3
from tests.stages.conftest import commit, new_clone, run_in


def documented() -> list[list[str]]:
    """The DVC commands that the section on restoring gives."""
    section = (INFRA.parent / "docs/operations.md").read_text().split("## Restore")[1].split("\n## ")[0]
    return [line.split() for line in re.findall(r"^    uv run ((?:dvc|python) .+)$", section, re.MULTILINE)]


def results(folder: Path) -> dict[str, str]:
    """sha256 of all that the pipeline left."""
    roots = ("data/prepared", "models", "samples", "metrics", "curves", "neighbours", "report/report.html")
    files = [file for root in roots for file in [folder / root, *(folder / root).rglob("*")] if file.is_file()]
    return {str(file.relative_to(folder)): sha256_file(file) for file in files}


@pytest.fixture
def finished(small: Tree, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose results are committed, and pushed to the origin beside it and to the bucket."""
    for name, value in (s3.env | {"CSPIPE_S3": f"s3://{s3.new_bucket()}/main"}).items():
        monkeypatch.setenv(name, value)
    clone = new_clone(tmp_path / "clone", change(small, {"variants": {"cs-10": small["variants"]["cs-10"]}}))
    run_in(clone, "sh", "-c", 'dvc remote add --local --default s3 "$CSPIPE_S3/dvc"')
    run_in(clone, "dvc", "repro")
    commit(clone, "results")
    subprocess.run(["git", "clone", "--quiet", "--bare", clone, tmp_path / "origin"], check=True)
    run_in(clone, "dvc", "push", "--run-cache")
    return clone


@pytest.mark.slow
def test_git_and_the_bucket_bring_everything_back(finished: Path, tmp_path: Path) -> None:
    before = results(finished)
    assert any(name.startswith("models/main/") for name in before)
    shutil.rmtree(finished)
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "--quiet", tmp_path / "origin", again], check=True)
    assert [command[:2] for command in documented()] == [
        ["dvc", "remote"], ["dvc", "remote"], ["python", "-m"]
    ]  # fmt: skip
    for command in documented():
        output = run_in(again, "sh", "-c", " ".join(command)).stdout
    assert "Data and pipelines are up to date." in output
    assert results(again) == before
    assert run_in(again, "git", "status", "--porcelain").stdout == ""
